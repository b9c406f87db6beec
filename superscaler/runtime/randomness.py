"""Random operators of ATen expressed by our counter-based kernels.

The tracer and the reference run use the same table, so that the n-th random call of the untouched
model and the operator numbered n in the graph draw the same numbers. Calls that draw nothing
(dropout in evaluation mode, or of probability 0) have no number.
"""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import pi, sqrt
from typing import Any

import torch
from torch import Tensor

import superscaler.runtime.kernels  # noqa: F401  registers the operators

aten = torch.ops.aten

NextId = Callable[[], int]


def dropout(next_id: NextId, x: Tensor, p: float, train: bool) -> Tensor:
    if not train or p == 0:
        return x
    return torch.ops.superscaler.dropout(x, p, next_id(), [])


def dropout_(next_id: NextId, x: Tensor, p: float, train: bool) -> Tensor:
    return x.copy_(dropout(next_id, x, p, train)) if train and p else x


def feature_dropout(next_id: NextId, x: Tensor, p: float, train: bool) -> Tensor:
    """Whole channels: one draw for each [sample, channel]."""
    if not train or p == 0:
        return x
    ones = x.new_ones(x.shape[:2], dtype=_real(x.dtype)).view([*x.shape[:2]] + [1] * (x.dim() - 2))
    return x * torch.ops.superscaler.dropout(ones, p, next_id(), [])


def rand(
    next_id: NextId,
    size: Sequence[int],
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | None = None,
    **_: Any,
) -> Tensor:
    device = torch.device("cpu") if device is None else torch.device(device)
    return _uniform(next_id, size, dtype or torch.get_default_dtype(), device)


def rand_like(next_id: NextId, x: Tensor, *, dtype: torch.dtype | None = None, **_: Any) -> Tensor:
    return _uniform(next_id, x.shape, dtype or x.dtype, x.device)


def uniform_(
    next_id: NextId, x: Tensor, low: float = 0.0, high: float = 1.0, generator: None = None
) -> Tensor:
    return x.copy_(rand_like(next_id, x) * (high - low) + low)


def randn(
    next_id: NextId,
    size: Sequence[int],
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | None = None,
    **_: Any,
) -> Tensor:
    device = torch.device("cpu") if device is None else torch.device(device)
    return _normal(next_id, size, dtype or torch.get_default_dtype(), device)


def randn_like(next_id: NextId, x: Tensor, *, dtype: torch.dtype | None = None, **_: Any) -> Tensor:
    return _normal(next_id, x.shape, dtype or x.dtype, x.device)


def normal_(
    next_id: NextId, x: Tensor, mean: float = 0.0, std: float = 1.0, generator: None = None
) -> Tensor:
    return x.copy_(randn_like(next_id, x) * std + mean)


def bernoulli(next_id: NextId, x: Tensor, *, generator: None = None) -> Tensor:
    return (rand_like(next_id, x) < x).to(x.dtype)


def bernoulli_p(next_id: NextId, x: Tensor, p: float, *, generator: None = None) -> Tensor:
    return (_uniform(next_id, x.shape, torch.float32, x.device) < p).to(x.dtype)


def bernoulli_(
    next_id: NextId, x: Tensor, p: float | Tensor = 0.5, *, generator: None = None
) -> Tensor:
    return x.copy_(_uniform(next_id, x.shape, torch.float32, x.device) < p)


def randint(
    next_id: NextId,
    high: int,
    size: Sequence[int],
    *,
    dtype: torch.dtype = torch.int64,
    **options: Any,
) -> Tensor:
    return randint_low(next_id, 0, high, size, dtype=dtype, **options)


def randint_low(
    next_id: NextId,
    low: int,
    high: int,
    size: Sequence[int],
    *,
    dtype: torch.dtype = torch.int64,
    **options: Any,
) -> Tensor:
    options["dtype"] = torch.float64
    return (rand(next_id, size, **options) * (high - low)).floor().to(dtype) + low


def randint_like(
    next_id: NextId, x: Tensor, high: int, *, dtype: torch.dtype | None = None, **_: Any
) -> Tensor:
    return randint_low(next_id, 0, high, x.shape, dtype=dtype or x.dtype, device=x.device)


def randperm(
    next_id: NextId, n: int, *, dtype: torch.dtype = torch.int64, **options: Any
) -> Tensor:
    return rand(next_id, [n], dtype=torch.float64, device=options.get("device")).argsort().to(dtype)


def exponential_(
    next_id: NextId, x: Tensor, rate: float = 1.0, *, generator: None = None
) -> Tensor:
    """Never 0, of which users take the logarithm."""
    drawn = -(1 - rand_like(next_id, x)).log()
    return x.copy_(drawn.clamp(min=torch.finfo(x.dtype).tiny) / rate)


def _uniform(
    next_id: NextId, size: Sequence[int], dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Of complex numbers both parts."""
    real = _real(dtype)
    if real is not dtype:
        parts = [_uniform(next_id, size, real, device) for _ in range(2)]
        return torch.complex(*parts)
    return torch.ops.superscaler.uniform(list(size), next_id(), [], dtype=dtype, device=device)


def _normal(
    next_id: NextId, size: Sequence[int], dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Box-Muller on two draws; 1 - u lies in (0, 1]. Complex numbers have the variance 1 as well,
    half of it in each part."""
    real = _real(dtype)
    if real is not dtype:
        parts = [_normal(next_id, size, real, device) * sqrt(0.5) for _ in range(2)]
        return torch.complex(*parts)
    radius = (1 - _uniform(next_id, size, dtype, device)).log().mul(-2).sqrt()
    return radius * (_uniform(next_id, size, dtype, device) * (2 * pi)).cos()


def _real(dtype: torch.dtype) -> torch.dtype:
    return dtype.to_real() if dtype.is_complex else dtype


RANDOM: dict[torch._ops.OpOverload, Callable[..., Tensor]] = {
    aten.dropout.default: dropout,
    aten.dropout_.default: dropout_,
    aten.feature_dropout.default: feature_dropout,
    aten.rand.default: rand,
    aten.rand_like.default: rand_like,
    aten.uniform_.default: uniform_,
    aten.randn.default: randn,
    aten.randn_like.default: randn_like,
    aten.normal_.default: normal_,
    aten.bernoulli.default: bernoulli,
    aten.bernoulli.p: bernoulli_p,
    aten.bernoulli_.float: bernoulli_,
    aten.bernoulli_.Tensor: bernoulli_,
    aten.randint.default: randint,
    aten.randint.low: randint_low,
    aten.randint_like.default: randint_like,
    aten.randperm.default: randperm,
    aten.exponential_.default: exponential_,
}

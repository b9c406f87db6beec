"""Decompositions of ATen operators in the joint graph that keep every split of the batch exact.

A mean is a sum divided by the global count, a variance likewise, and a bias is added after the
product, so that a part of any of them is a partial sum of the whole.
"""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch._decomp import get_decompositions

aten = torch.ops.aten


def mean(x: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
    return aten.div.Tensor(aten.sum.default(x, dtype=dtype), x.numel())


def mean_dim(
    x: Tensor, dim: Sequence[int] | None, keepdim: bool = False, *, dtype: torch.dtype | None = None
) -> Tensor:
    dims = _dims(x, dim)
    total = aten.sum.dim_IntList(x, dims, keepdim, dtype=dtype)
    return aten.div.Tensor(total, prod(x.shape[d] for d in dims))


def var_mean(
    x: Tensor,
    dim: Sequence[int] | None = None,
    *,
    correction: float | None = None,
    keepdim: bool = False,
) -> tuple[Tensor, Tensor]:
    dims = _dims(x, dim)
    count = prod(x.shape[d] for d in dims)
    center = mean_dim(x, dims, True)
    distance = aten.sub.Tensor(x, center)
    total = aten.sum.dim_IntList(_square(distance), dims, keepdim)
    degrees = max(0.0, count - (1 if correction is None else correction))
    variance = aten.div.Tensor(total, degrees)
    return variance, center if keepdim else aten.view.default(center, variance.shape)


def var(
    x: Tensor,
    dim: Sequence[int] | None = None,
    *,
    correction: float | None = None,
    keepdim: bool = False,
) -> Tensor:
    return var_mean(x, dim, correction=correction, keepdim=keepdim)[0]


def std(
    x: Tensor,
    dim: Sequence[int] | None = None,
    *,
    correction: float | None = None,
    keepdim: bool = False,
) -> Tensor:
    return aten.sqrt.default(var(x, dim, correction=correction, keepdim=keepdim))


def std_mean(
    x: Tensor,
    dim: Sequence[int] | None = None,
    *,
    correction: float | None = None,
    keepdim: bool = False,
) -> tuple[Tensor, Tensor]:
    variance, center = var_mean(x, dim, correction=correction, keepdim=keepdim)
    return aten.sqrt.default(variance), center


def addmm(bias: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    return _plus(aten.mm.default(a, b), bias, beta, alpha)


def baddbmm(bias: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    return _plus(aten.bmm.default(a, b), bias, beta, alpha)


def vector_norm(
    x: Tensor,
    ord: float = 2,
    dim: Sequence[int] | None = None,
    keepdim: bool = False,
    *,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """The 2-norm as the root of a sum; other norms stay whole."""
    if ord != 2 or dtype is not None or not (x.is_floating_point() or x.is_complex()):
        return NotImplemented
    return aten.sqrt.default(aten.sum.dim_IntList(_square(x), _dims(x, dim), keepdim))


def _square(x: Tensor) -> Tensor:
    """Of each element the square of its magnitude."""
    if not x.is_complex():
        return aten.mul.Tensor(x, x)
    pairs = aten.view_as_real.default(x)
    return aten.sum.dim_IntList(aten.mul.Tensor(pairs, pairs), [-1])


def _plus(product: Tensor, bias: Tensor, beta: float, alpha: float) -> Tensor:
    scaled = product if alpha == 1 else aten.mul.Tensor(product, alpha)
    if beta == 0:
        return scaled
    return aten.add.Tensor(scaled, bias if beta == 1 else aten.mul.Tensor(bias, beta))


def _dims(x: Tensor, dim: Sequence[int] | None) -> list[int]:
    """The dims reduced over; None and [] mean all."""
    return [d % x.dim() for d in dim] if dim else list(range(x.dim()))


_BY_TORCH = (
    aten._log_softmax,
    aten._log_softmax_backward_data,
    aten.nll_loss_forward,
    aten.nll_loss_backward,
    aten.nll_loss2d_forward,
    aten.nll_loss2d_backward,
    aten.mse_loss,
    aten.mse_loss_backward,
    aten.smooth_l1_loss,
    aten.smooth_l1_loss_backward,
    aten.huber_loss,
    aten.huber_loss_backward,
    aten.soft_margin_loss,
    aten.soft_margin_loss_backward,
    aten.binary_cross_entropy,
    aten.binary_cross_entropy_backward,
    aten.binary_cross_entropy_with_logits,
    aten.native_batch_norm,
    aten._native_batch_norm_legit,
    aten._native_batch_norm_legit_functional,
    aten._native_batch_norm_legit_no_training,
    aten.native_batch_norm_backward,
    aten.addcmul,
    aten.addcdiv,
    aten.addmv,
    aten.addbmm,
    aten.embedding_renorm,
)

DECOMPOSITIONS: dict[Any, Callable[..., Any]] = {
    **get_decompositions(_BY_TORCH),
    aten.mean.default: mean,
    aten.mean.dim: mean_dim,
    aten.var.correction: var,
    aten.var_mean.correction: var_mean,
    aten.std.correction: std,
    aten.std_mean.correction: std_mean,
    aten.addmm.default: addmm,
    aten.baddbmm.default: baddbmm,
    aten.linalg_vector_norm.default: vector_norm,
}

"""Accuracy: how exact a program has to be in each dtype."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


@dataclass(frozen=True)
class Accuracy:
    """What counts as equal, where the least precise arithmetic is in `dtype`.

    An error is the largest difference, relative to the largest magnitude of the reference, and may
    be `tolerance`. Gradient elements below `rounding` times the model's largest gradient are zero
    but for rounding. With `is_mean` the error of parameters and optimizer states is relative in the
    root mean square: in low precision an adaptive optimizer moves single elements, whose gradient
    is of the size of rounding, by a whole step to either side. An error up to `sensitive`
    is no program's where rounding alone makes one as large (see `verify.sensitivity`).
    """

    dtype: torch.dtype
    tolerance: float
    rounding: float
    is_mean: bool = False
    sensitive: float = 0.0


_KNOWN = (
    Accuracy(torch.float64, 1e-9, 1e-12, sensitive=1e-6),
    Accuracy(torch.complex128, 1e-9, 1e-12),
    Accuracy(torch.float32, 1e-3, 1e-5, is_mean=True),
    Accuracy(torch.complex64, 1e-3, 1e-5, is_mean=True),
    Accuracy(torch.bfloat16, 1e-1, 1e-3, is_mean=True),
    Accuracy(torch.float16, 1e-1, 1e-3, is_mean=True),
)
_HALF = {torch.bfloat16, torch.float16}


def accuracy_of(model: torch.nn.Module, computed: Collection[torch.dtype] = ()) -> Accuracy:
    """The accuracy that the least precise parameter of the model allows, or half precision among
    the dtypes that its step `computed` in."""
    dtypes = {p.dtype for p in model.parameters()} | ({*computed} & _HALF)
    found = [a for a in _KNOWN if a.dtype in dtypes]
    found = found or [a for a in _KNOWN if a.dtype is torch.float32]
    return max(found, key=lambda accuracy: accuracy.tolerance)


class ComputedDtypes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Inside, `found` are the dtypes that operators computed results in (under autocast, others
    than the parameters')."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: set[torch.dtype] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        self.found.update(x.dtype for x in tree_leaves(result) if isinstance(x, Tensor))
        return result


def widened(x: Tensor) -> Tensor:
    """The tensor in double precision, real or complex."""
    return x.to(torch.complex128 if x.is_complex() else torch.float64)


def largest(x: Tensor) -> float:
    """The largest magnitude of a tensor, 0 of an empty one; NaN where it has one."""
    return float(x.detach().abs().max()) if x.numel() else 0.0


def relative(difference: float, scale: float) -> float:
    """`difference` in units of `scale`; infinite where something differs from nothing.

    >>> relative(0.5, 2.0), relative(0.0, 0.0), relative(0.1, 0.0)
    (0.25, 0.0, inf)
    """
    if difference != difference or scale != scale or scale == float("inf"):
        return float("nan")
    if difference == 0:
        return 0.0
    return difference / scale if scale else float("inf")

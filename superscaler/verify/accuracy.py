"""Accuracy: how exact a program has to be in each dtype."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Accuracy:
    """What counts as equal.

    An error is the largest difference, relative to the largest magnitude of the reference, and may
    be `tolerance`. Gradient elements below `rounding` times the model's largest gradient are zero
    but for rounding. With `is_mean` the error of parameters and optimizer states is relative in the
    root mean square: in low precision an adaptive optimizer moves single elements, whose gradient
    is of the size of rounding, by a whole step to either side. An error up to `sensitive`
    is no program's where rounding alone makes one as large (see `verify.sensitivity`).
    """

    tolerance: float
    rounding: float
    is_mean: bool = False
    sensitive: float = 0.0


_OF_DTYPE = {
    torch.float64: Accuracy(1e-9, 1e-12, sensitive=1e-6),
    torch.float32: Accuracy(1e-3, 1e-5, is_mean=True),
    torch.bfloat16: Accuracy(1e-1, 1e-3, is_mean=True),
    torch.float16: Accuracy(1e-1, 1e-3, is_mean=True),
    torch.complex128: Accuracy(1e-9, 1e-12),
    torch.complex64: Accuracy(1e-3, 1e-5, is_mean=True),
}


def accuracy_of(model: torch.nn.Module) -> Accuracy:
    """The accuracy that the least precise parameter of the model allows."""
    dtypes = {p.dtype for p in model.parameters()} & set(_OF_DTYPE)
    found = [_OF_DTYPE[dtype] for dtype in dtypes] or [_OF_DTYPE[torch.float32]]
    return max(found, key=lambda accuracy: accuracy.tolerance)


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

"""Autocast for replaced operators: what torch casts before its own, we cast before ours."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor

_DEVICE = "cpu"  # tracing happens on CPU fakes

_Operand = TypeVar("_Operand", bound=Tensor | None)


def lower(tensor: _Operand) -> _Operand:
    """Under autocast, the tensor in its dtype (float64 stays); otherwise as it is."""
    if not torch.is_autocast_enabled(_DEVICE):
        return tensor
    return _cast(tensor, torch.get_autocast_dtype(_DEVICE))


def raised(tensor: _Operand) -> _Operand:
    """Under autocast, the tensor in float32 if it was in less; otherwise as it is."""
    return _cast(tensor, torch.float32) if torch.is_autocast_enabled(_DEVICE) else tensor


def _cast(tensor: _Operand, dtype: torch.dtype) -> _Operand:
    if tensor is None or not tensor.is_floating_point() or tensor.dtype == torch.float64:
        return tensor
    return tensor.to(dtype)  # type: ignore[return-value]

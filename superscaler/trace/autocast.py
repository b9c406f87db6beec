"""Autocast for replaced operators: what torch casts before its own, we cast before ours."""

from __future__ import annotations

import torch
from torch import Tensor

_DEVICE = "cpu"  # tracing happens on CPU fakes


def lower(*tensors: Tensor | None) -> list[Tensor | None]:
    """Under autocast, the tensors in its dtype (float64 stays); otherwise as they are."""
    if not torch.is_autocast_enabled(_DEVICE):
        return list(tensors)
    dtype = torch.get_autocast_dtype(_DEVICE)
    return [_cast(t, dtype) for t in tensors]


def full(*tensors: Tensor | None) -> list[Tensor | None]:
    """Under autocast, the tensors in float32 where they were in less; otherwise as they are."""
    if not torch.is_autocast_enabled(_DEVICE):
        return list(tensors)
    return [_cast(t, torch.float32) for t in tensors]


def _cast(tensor: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    if tensor is None or not tensor.is_floating_point() or tensor.dtype == torch.float64:
        return tensor
    return tensor.to(dtype)

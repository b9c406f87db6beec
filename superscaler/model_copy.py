"""Copies of a model that holds tensors with a gradient history."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import nn


def copy_model(model: nn.Module, memo: dict[int, Any] | None = None) -> nn.Module:
    """A deep copy. Attributes computed from parameters (`weight` of `nn.utils.weight_norm`) are
    copied without their history, which torch would refuse to copy."""
    memo = {} if memo is None else memo
    for module in model.modules():
        for value in vars(module).values():
            if isinstance(value, torch.Tensor) and not value.is_leaf:
                memo.setdefault(id(value), value.detach().clone())
    return deepcopy(model, memo)

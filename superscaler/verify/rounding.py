"""Gradients that are zero but for rounding: kept from the optimizer, on both sides alike.

The gradient of a key's bias under softmax is zero; what arithmetic leaves of it is rounding, which
Adam, dividing by its size, makes a step of full length in a random direction. Such steps say
nothing about a program. So before each step of its optimizer the reference, and the ranks with the
same thresholds, take elements below a hair's breadth of the model's largest gradient for zero.
Everything after it, every parameter and state included, can then be compared strictly. The
gradients themselves are compared as they were.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def drop_rounding(optimizer: torch.optim.Optimizer, threshold: Callable[[], float]) -> None:
    """Let the optimizer's steps see zero where a gradient's magnitude is below `threshold()`."""

    def drop(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        limit = threshold()
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:  # a new tensor: the gradient itself is kept
                    parameter.grad = _without(parameter.grad, limit)

    optimizer.register_step_pre_hook(drop)


def _without(gradient: torch.Tensor, limit: float) -> torch.Tensor:
    return torch.where(gradient.abs() < limit, torch.zeros_like(gradient), gradient)

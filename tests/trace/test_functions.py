"""Custom autograd functions: their own backward is what the graph has."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from compare import adamw, compare
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from superscaler.errors import TraceError
from superscaler.trace import trace

pytestmark = pytest.mark.usefixtures("double")

# mypy: disable-error-code="no-untyped-call"


class Reversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return -ctx.strength * grad, None


class Step(torch.autograd.Function):
    """A straight-through estimator, with a second output that is none."""

    @staticmethod
    def forward(x: Tensor, scales: list[Tensor], flag: bool = True) -> Any:
        return (x > 0).to(x.dtype), None, x.sum() * scales[0]

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: None, grad_sum: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        return grad * (x.abs() < 1) + grad_sum, None, None


class Noise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x + torch.randn_like(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.mark_dirty(x)
        return x.mul_(2)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return 2 * grad


def test_a_backward_that_is_not_the_derivative_of_its_forward() -> None:
    def step(model: nn.Module, x: Tensor) -> Tensor:
        hard, nothing, total = Step.apply(model[0](x), [x.new_ones(())])
        assert nothing is None
        return (model[1](hard) + Reversal.apply(model[0](x), 0.3)).square().mean() + total

    compare(step, nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)), torch.randn(4, 8))


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_under_checkpointing(use_reentrant: bool) -> None:
    def step(model: nn.Module, x: Tensor) -> Tensor:
        def run(y: Tensor) -> Tensor:
            return model[1](Reversal.apply(torch.tanh(y), 0.5))

        hidden = model[0](x)
        out: Tensor = checkpoint(run, hidden, use_reentrant=use_reentrant)
        return out.square().sum()

    compare(step, nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)), torch.randn(4, 8))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (Noise, "autograd function Noise draws random numbers .*; draw them before the call"),
        (Doubled, "autograd function Doubled changes an input in place; let it return a new"),
    ],
)
def test_refusals(function: Any, message: str) -> None:
    with pytest.raises(TraceError, match=message):
        trace(
            lambda model, x: function.apply(model(x)).sum(),
            nn.Linear(8, 8),
            torch.randn(4, 8),
            adamw,
        )

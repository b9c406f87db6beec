"""An operator of your own, as a CUDA or Triton kernel would be, with its axes: ten lines.

    superscaler axes examples/custom_operator.py:workload
    superscaler verify examples/custom_operator.py:workload --plan 'megatron(tp=2)' --devices 2

Two operators are registered with torch (a kernel and its backward) and with SuperScaler, which has
to know their dims: `rows` and `features` appear in inputs and output alike, so either can be split.
"""

from __future__ import annotations

import torch
from torch import nn

import superscaler as ss


@torch.library.custom_op("examples::squared_relu", mutates_args=())
def squared_relu(x: torch.Tensor) -> torch.Tensor:
    """relu(x) ** 2. A kernel of yours goes here."""
    return x.relu().square()


@torch.library.custom_op("examples::squared_relu_backward", mutates_args=())
def squared_relu_backward(gradient: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """The gradient of x."""
    return 2 * gradient * x.relu()


squared_relu.register_fake(torch.empty_like)
squared_relu_backward.register_fake(lambda gradient, x: torch.empty_like(x))
squared_relu.register_autograd(
    lambda ctx, gradient: squared_relu_backward(gradient, *ctx.saved_tensors),
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs),
)

ss.register_op("examples.squared_relu.default", "rows features -> rows features")
ss.register_op(
    "examples.squared_relu_backward.default",
    "rows features, rows features -> rows features",
    linear=(frozenset({0}),),  # in the gradient: partial sums may pass through
)


class FeedForward(nn.Module):
    """Two linear layers around the operator."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(squared_relu(self.up(x)))


def step(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """The mean squared error."""
    return nn.functional.mse_loss(model(batch["x"]), batch["y"])


def workload(width: int = 16, batch: int = 8) -> ss.Workload:
    """The block on random numbers."""
    torch.manual_seed(0)
    return ss.Workload(
        step=step,
        model=FeedForward(width),
        optimizer=lambda parameters: torch.optim.AdamW(parameters, lr=1e-2),
        batch={"x": torch.randn(batch, width), "y": torch.randn(batch, width)},
    )

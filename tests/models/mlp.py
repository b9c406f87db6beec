"""An MLP with residuals, its mean squared error, and a metric."""

from __future__ import annotations

import torch
from torch import nn

import superscaler as ss


class Block(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(hidden, 4 * hidden)
        self.fc2 = nn.Linear(4 * hidden, hidden)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.fc2(torch.tanh(self.fc1(x)))


class MLP(nn.Module):
    def __init__(self, layers: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Block(hidden) for _ in range(layers))
        self.head = nn.Linear(hidden, hidden)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


def step(
    model: nn.Module, batch: dict[str, torch.Tensor]
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    error = model(batch["x"]) - batch["y"]
    return error.square().mean(), {"largest_error": error.detach().abs().amax()}


def mlp(
    layers: int = 4,
    hidden: int = 16,
    batch: int = 8,
    clip: float | None = None,
    meta: bool = False,
    dtype: torch.dtype = torch.float32,
) -> ss.Workload:
    torch.manual_seed(0)
    with torch.device("meta" if meta else "cpu"):
        model = MLP(layers, hidden).to(dtype)
    return ss.Workload(
        step=step,
        model=model,
        optimizer=lambda parameters: torch.optim.AdamW(parameters, lr=1e-3),
        batch={
            "x": torch.randn(batch, hidden, dtype=dtype),
            "y": torch.randn(batch, hidden, dtype=dtype),
        },
        clip_grad_norm=clip,
    )

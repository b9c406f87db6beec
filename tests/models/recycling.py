"""A trunk that runs several times, each pass on what the last one made; only the last pass has a
gradient (as AlphaFold's recycling)."""

import torch
from torch import nn

import superscaler as ss


class Recycling(nn.Module):
    def __init__(self, layers: int, hidden: int, passes: int) -> None:
        super().__init__()
        self.passes = passes
        self.embed = nn.Linear(hidden, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.layers = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(layers))
        self.head = nn.Linear(hidden, hidden)

    def once(self, x: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
        y = self.embed(x) + self.norm(before)
        for layer in self.layers:
            y = y + torch.tanh(layer(y))
        return y

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.zeros_like(x)
        with torch.no_grad():
            for _ in range(self.passes - 1):
                y = self.once(x, y)
        return self.head(self.once(x, y))


def step(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    return nn.functional.mse_loss(model(batch["x"]), batch["y"])


def recycling(layers: int = 4, hidden: int = 8, passes: int = 3, batch: int = 8) -> ss.Workload:
    torch.manual_seed(0)
    return ss.Workload(
        step=step,
        model=Recycling(layers, hidden, passes),
        optimizer=lambda parameters: torch.optim.AdamW(parameters, lr=1e-2),
        batch={"x": torch.randn(batch, hidden), "y": torch.randn(batch, hidden)},
    )

"""A feed-forward block that is much wider inside than outside, on many tokens."""

import torch
from torch import nn

import superscaler as ss


def step(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    return nn.functional.mse_loss(model(batch["x"]), batch["y"])


def wide(hidden: int = 8, width: int = 256, batch: int = 512) -> ss.Workload:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(hidden, width), nn.GELU(), nn.Linear(width, hidden))
    return ss.Workload(
        step=step,
        model=model,
        optimizer=lambda parameters: torch.optim.AdamW(parameters, lr=1e-2),
        batch={"x": torch.randn(batch, hidden), "y": torch.randn(batch, hidden)},
    )

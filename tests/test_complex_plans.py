"""Plans of models with complex numbers train as one device does."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import superscaler as ss
from superscaler.verify import verify

PLANS = (
    "hybrid(dp=2, microbatches=2)",
    "hybrid(tp=2)",
    "hybrid(pp=2, microbatches=2)",
    "zero(dp=2, stage=3)",
)


class Rotary(nn.Module):
    """Attention with the rotary embedding of the original LLaMA."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (
            nn.Linear(hidden, hidden, bias=False) for _ in range(4)
        )

    def forward(self, x: Tensor, turns: Tensor) -> Tensor:
        shape = (*x.shape[:2], self.heads, -1)
        q, k, v = (layer(x).view(shape) for layer in (self.query, self.key, self.value))
        q, k = (self._rotated(y, turns) for y in (q, k))
        heads = [y.transpose(1, 2) for y in (q, k, v)]
        mixed = F.scaled_dot_product_attention(*heads, is_causal=True)
        return self.out(mixed.transpose(1, 2).reshape(x.shape))

    @staticmethod
    def _rotated(x: Tensor, turns: Tensor) -> Tensor:
        pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
        return torch.view_as_real(pairs * turns[None, :, None]).flatten(3).type_as(x)


class Rotated(nn.Module):
    """Two layers on a buffer of complex turns."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(16, 16)
        self.layers = nn.ModuleList(Rotary(16, 2) for _ in range(2))
        self.head = nn.Linear(16, 16)
        angles = torch.outer(torch.arange(6.0), 100 ** (-torch.arange(0, 8, 2) / 8))
        turns = torch.polar(torch.ones_like(angles), angles)
        self.register_buffer("turns", turns, persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tokens(tokens)
        for layer in self.layers:
            x = x + layer(x, self.turns)
        return self.head(x)


class Spectral(nn.Module):
    """A layer of complex weights on the frequencies of a row, and one on parts of a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.lift = nn.Linear(16, 8)
        self.weight = nn.Parameter(torch.randn(4, 8, 8, dtype=torch.complex64) / 8)
        self.filter = nn.Parameter(torch.randn(4, 8, 2) / 2)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        frequencies = torch.fft.rfft(self.lift(x) * self.scale, dim=1)
        mixed = torch.einsum("bfi,fio->bfo", frequencies, self.weight)
        filtered = mixed * torch.view_as_complex(self.filter)
        y = torch.fft.irfft(filtered, n=x.shape[1], dim=1)
        return self.head(y + torch.fft.fft(torch.fft.fft(y, dim=-1), dim=-2).real)


def rotated() -> ss.Workload:
    torch.manual_seed(0)
    tokens = torch.randint(16, (4, 7))
    return ss.Workload(
        step=lambda model, batch: F.cross_entropy(
            model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten()
        ),
        model=Rotated(),
        optimizer=lambda p: torch.optim.AdamW(p, lr=1e-3),
        batch=tokens,
    )


def spectral() -> ss.Workload:
    torch.manual_seed(0)
    return ss.Workload(
        step=lambda model, batch: F.mse_loss(model(batch["x"]), batch["y"]),
        model=Spectral(),
        optimizer=lambda p: torch.optim.AdamW(p, lr=1e-3),
        batch={"x": torch.randn(4, 6, 16), "y": torch.randn(4, 6, 3)},
        clip_grad_norm=0.1,
    )


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("workload", [rotated, spectral])
def test_trains_as_one_device_does(workload, plan) -> None:
    report = verify(workload(), plan, processes=False)
    assert report.ok, report.largest_error


@pytest.mark.dist
def test_trains_in_processes() -> None:
    report = verify(spectral(), "hybrid(dp=2, tp=2)")
    assert report.ok, report.largest_error

"""A diffusion transformer (DiT, arXiv 2212.09748) that learns to tell noise from made-up images.

    superscaler axes examples/dit.py:workload
    superscaler verify examples/dit.py:workload --plan 'hybrid(dp=2, tp=2)' --devices 4

The published DiT-XL/2 on latents of 32 x 32 or 64 x 64, without its memory:

    superscaler compile examples/dit.py:workload --set config=xl2_256 --set meta=true \\
        --plan 'hybrid(dp=2, tp=2)' --devices 4 --out build/dit

Images are cut into patches; every block is modulated by the noise level and the label (adaLN-zero:
what is modulated begins at zero). Noise is drawn by the step; the variance is not learned.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import log, pi

import torch
from torch import nn
from torch.nn import functional as F

import superscaler as ss

NUM_LEVELS = 1000  # of noise
FREQUENCIES = 256  # that a noise level is embedded by


@dataclass(frozen=True)
class Sizes:
    """Images (or latents) of `channels` x `image` x `image`; `zero`: adaLN-zero begins at zero.

    The toy does not, so that no gradient of its first steps is zero, and verifying tells more.
    """

    layers: int
    hidden: int
    heads: int
    image: int
    patch: int = 2
    channels: int = 4
    labels: int = 1000
    batch: int = 32
    zero: bool = True


CONFIGS = {
    "toy": Sizes(2, 32, 4, image=8, labels=8, batch=8, zero=False),
    "b2_256": Sizes(12, 768, 12, image=32),
    "xl2_256": Sizes(28, 1152, 16, image=32),
    "xl2_512": Sizes(28, 1152, 16, image=64),
}


class Attention(nn.Module):
    """Self-attention of all patches."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(hidden, hidden)
        self.key = nn.Linear(hidden, hidden)
        self.value = nn.Linear(hidden, hidden)
        self.output = nn.Linear(hidden, hidden)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = (
            project(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for project in (self.query, self.key, self.value)
        )
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.output(mixed.transpose(1, 2).flatten(2))


def modulate(x: torch.Tensor, shift: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """x [batch, patches, hidden] with a shift and a scale [batch, hidden] for every patch."""
    return x * (1 + scale[:, None]) + shift[:, None]


class ZeroLinear(nn.Linear):
    """A product that begins at `zero`, so that blocks begin by doing nothing, or at random."""

    def __init__(self, inside: int, outside: int, zero: bool) -> None:
        self.zero = zero
        super().__init__(inside, outside)

    def reset_parameters(self) -> None:
        super().reset_parameters()
        if self.zero:
            nn.init.zeros_(self.weight)
            nn.init.zeros_(self.bias)


class Block(nn.Module):
    """Attention and feed-forward, shifted, scaled and gated by the condition."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(sizes.hidden, elementwise_affine=False)
        self.attention = Attention(sizes.hidden, sizes.heads)
        self.norm2 = nn.LayerNorm(sizes.hidden, elementwise_affine=False)
        self.fc1 = nn.Linear(sizes.hidden, 4 * sizes.hidden)
        self.fc2 = nn.Linear(4 * sizes.hidden, sizes.hidden)
        self.modulation = ZeroLinear(sizes.hidden, 6 * sizes.hidden, sizes.zero)

    def forward(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(condition).chunk(6, dim=-1)
        x = x + gate1[:, None] * self.attention(modulate(self.norm1(x), shift1, scale1))
        inner = F.gelu(self.fc1(modulate(self.norm2(x), shift2, scale2)), approximate="tanh")
        return x + gate2[:, None] * self.fc2(inner)


class NoiseLevel(nn.Module):
    """Embeds the number of a noise level by sines and cosines and two products."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(FREQUENCIES, hidden)
        self.fc2 = nn.Linear(hidden, hidden)

    def forward(self, level: torch.Tensor) -> torch.Tensor:
        half = FREQUENCIES // 2
        steps = torch.arange(half, device=level.device, dtype=self.fc1.weight.dtype)
        angles = level[:, None] * torch.exp(steps * (-log(10_000) / half))
        waves = torch.cat([angles.cos(), angles.sin()], dim=-1)
        return self.fc2(F.silu(self.fc1(waves)))


class DiT(nn.Module):
    """Patches in, the predicted noise out."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.patches = nn.Conv2d(sizes.channels, sizes.hidden, sizes.patch, sizes.patch)
        self.positions = nn.Parameter(torch.empty((sizes.image // sizes.patch) ** 2, sizes.hidden))
        self.level = NoiseLevel(sizes.hidden)
        self.labels = nn.Embedding(sizes.labels, sizes.hidden)
        self.layers = nn.ModuleList(Block(sizes) for _ in range(sizes.layers))
        self.norm = nn.LayerNorm(sizes.hidden, elementwise_affine=False)
        self.modulation = ZeroLinear(sizes.hidden, 2 * sizes.hidden, sizes.zero)
        self.head = ZeroLinear(sizes.hidden, sizes.channels * sizes.patch**2, sizes.zero)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.positions, std=0.02)

    def forward(self, x: torch.Tensor, level: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2) + self.positions
        condition = F.silu(self.level(level) + self.labels(label))
        for layer in self.layers:
            x = layer(x, condition)
        x = self.head(modulate(self.norm(x), *self.modulation(condition).chunk(2, dim=-1)))
        side, patch = self.sizes.image // self.sizes.patch, self.sizes.patch
        x = x.unflatten(1, (side, side)).unflatten(-1, (self.sizes.channels, patch, patch))
        return x.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)


def step(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """The squared error of the noise predicted, on a cosine schedule (arXiv 2102.09672)."""
    images, level = batch["images"], batch["level"]
    noise = torch.randn_like(images)
    angle = level.to(images.dtype)[:, None, None, None] * (pi / 2 / NUM_LEVELS)
    return F.mse_loss(
        model(angle.cos() * images + angle.sin() * noise, level, batch["label"]), noise
    )


def batches(sizes: Sizes, seed: int) -> Iterator[dict[str, torch.Tensor]]:
    """Waves whose direction is the label; the same ones for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(*(torch.linspace(-pi, pi, sizes.image),) * 2, indexing="ij")
    while True:
        label = torch.randint(sizes.labels, (sizes.batch,), generator=generator)
        phase = 2 * pi * torch.rand(sizes.batch, sizes.channels, 1, 1, generator=generator)
        angle = (label * (2 * pi / sizes.labels))[:, None, None, None]
        level = torch.randint(NUM_LEVELS, (sizes.batch,), generator=generator)
        yield {
            "images": torch.sin(2 * (angle.cos() * x + angle.sin() * y) + phase),
            "level": level,
            "label": label,
        }


def workload(
    config: str = "toy", lr: float = 1e-4, meta: bool = False, seed: int = 0, **sizes: int
) -> ss.Workload:
    """The DiT of a config, some of its sizes changed; `meta` leaves its weights to the run."""
    if config not in CONFIGS:
        raise ValueError(f"config is {config!r}, expected one of {', '.join(CONFIGS)}")
    chosen = replace(CONFIGS[config], **sizes)
    torch.manual_seed(seed)
    with torch.device("meta" if meta else "cpu"):
        model = DiT(chosen)
    return ss.Workload(
        step=step,
        model=model,
        optimizer=lambda parameters: torch.optim.AdamW(parameters, lr=lr),
        batch=next(batches(chosen, seed)),
        data=lambda: batches(chosen, seed),
        seed=seed,
    )

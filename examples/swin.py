"""Swin as `transformers` ships it, unchanged, built from a config, on made-up images.

    superscaler axes examples/swin.py:workload
    superscaler verify examples/swin.py:workload --plan 'hybrid(dp=2, tp=2)' --devices 4

The published sizes, images of 1536 x 1536 in windows of 48 x 48, without their memory:

    superscaler compile examples/swin.py:workload --set config=l32 --set meta=true \\
        --plan 'hybrid(dp=2, tp=2, recompute="swin.encoder.layers.*.blocks.*")' \\
        --devices 4 --out build/swin
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from transformers import SwinConfig, SwinForImageClassification

import superscaler as ss


@dataclass(frozen=True)
class Sizes:
    """`layers` in all: 2, 2, the rest and 2 in the four stages; stages double width and heads."""

    layers: int
    hidden: int
    heads: int
    image: int = 1536
    window: int = 48
    patch: int = 4
    labels: int = 1000
    batch: int = 8


CONFIGS = {
    "toy": Sizes(8, 16, 2, image=64, window=2, labels=8),
    "l32": Sizes(32, 512, 16),
    "l40": Sizes(40, 768, 24),
    "l48": Sizes(48, 1024, 32),
    "l56": Sizes(56, 1536, 32),
}


def step(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """The model's own loss."""
    return model(**batch).loss


def batches(sizes: Sizes, seed: int) -> Iterator[dict[str, torch.Tensor]]:
    """Noise around a pattern for each label, without end, the same ones for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    shape = (3, sizes.image, sizes.image)
    patterns = torch.randn(min(sizes.labels, 16), 3, 1, 1, generator=generator)
    while True:
        labels = torch.randint(len(patterns), (sizes.batch,), generator=generator)
        noise = torch.randn(sizes.batch, *shape, generator=generator)
        yield {"pixel_values": patterns[labels] + noise, "labels": labels}


def shapes(sizes: Sizes) -> dict[str, torch.Tensor]:
    """A batch without values."""
    images = (sizes.batch, 3, sizes.image, sizes.image)
    return {
        "pixel_values": torch.empty(images, device="meta"),
        "labels": torch.empty(sizes.batch, dtype=torch.long, device="meta"),
    }


def workload(
    config: str = "toy", lr: float = 1e-3, meta: bool = False, seed: int = 0, **sizes: int
) -> ss.Workload:
    """The Swin of a config, some of its sizes changed; `meta` makes no weights and no batch."""
    if config not in CONFIGS:
        raise ValueError(f"config is {config!r}, expected one of {', '.join(CONFIGS)}")
    chosen = replace(CONFIGS[config], **sizes)
    swin = SwinConfig(
        image_size=chosen.image,
        patch_size=chosen.patch,
        window_size=chosen.window,
        embed_dim=chosen.hidden,
        depths=[2, 2, chosen.layers - 6, 2],
        num_heads=[chosen.heads * 2**stage for stage in range(4)],
        num_labels=chosen.labels,
    )
    torch.manual_seed(seed)
    with torch.device("meta" if meta else "cpu"):
        model = SwinForImageClassification(swin).train()
    return ss.Workload(
        step=step,
        model=model,
        optimizer=lambda parameters: torch.optim.AdamW(parameters, lr=lr),
        batch=shapes(chosen) if meta else next(batches(chosen, seed)),
        data=lambda: batches(chosen, seed),
        seed=seed,
    )

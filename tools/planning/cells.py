"""Cells: a model at its published size on a number of V100s (shared conventions: see README)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

import superscaler as ss
from superscaler.workload import Workload

EXAMPLES = Path(__file__).parents[2] / "examples"
GLOBAL_BATCH = 256


@dataclass(frozen=True)
class Cell:
    """A model with its settings on `devices` V100s, `global_batch` samples a step.

    `heads` and `layers` limit tensor and pipeline parallelism; `blocks` are the module patterns
    that recompute runs again, one region each.
    """

    model: str
    size: str
    devices: int
    settings: dict[str, Any]
    heads: int
    layers: int
    blocks: str
    global_batch: int = GLOBAL_BATCH
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.model} {self.size} on {self.devices}"

    @property
    def cluster(self) -> ss.Cluster:
        return ss.Cluster.load(f"v100-32g-8x{self.devices}")

    def workload(self, batch: int) -> Workload:
        """The workload under mixed precision (float16 compute, float32 parameters and states)."""
        spec = f"{EXAMPLES / self.model}.py:workload"
        found = ss.load_workload(spec, {**self.settings, "batch": batch, "meta": True})
        return Workload(
            step=_mixed(found.step),
            model=found.model,
            optimizer=found.optimizer,
            batch=found.batch,
        )


def _mixed(step: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    def mixed(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        with torch.autocast("cpu", torch.float16):
            return step(model, batch)

    return mixed


GPT_SIZES = {4: (32, 2560, 32), 8: (32, 4096, 32), 16: (48, 5120, 32), 32: (48, 5120, 32)}


def gpt(devices: int, seq: int) -> Cell:
    """GPT with long sequences: 32L/2560, 32L/4096, 48L/5120, sequence 2k to 12k."""
    layers, hidden, heads = GPT_SIZES[devices]
    settings = {"layers": layers, "hidden": hidden, "heads": heads, "seq": seq, "vocab": 51200}
    size = f"{layers}L/{hidden}, {seq // 1024}k"
    return Cell("gpt", size, devices, settings, heads, layers, "layers.*")


def cells() -> list[Cell]:
    """All cells, smallest first."""
    found = []
    for devices in (4, 8, 16, 32):
        found += [gpt(devices, 2048), gpt(devices, 12288)]
    return found

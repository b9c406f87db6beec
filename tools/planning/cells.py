"""Cells: a model at its published size on a number of V100s (shared conventions: see README)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

import superscaler as ss
from superscaler.workload import Workload

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[1] / "examples"
GLOBAL_BATCH = 256


@dataclass(frozen=True)
class Cell:
    """A model, made by the callable `spec` with its settings, on so many V100s.

    `heads` and `layers` limit tensor and pipeline parallelism; `blocks` are the module patterns
    that recompute runs again, one region each. `facts` are what policies are told of the model:
    embedding and head (interlaced), layers, count, first and last (3F1B).
    """

    model: str
    size: str
    devices: int
    spec: str
    settings: dict[str, Any]
    heads: int
    layers: int
    blocks: str
    facts: dict[str, Any] = field(default_factory=dict)
    global_batch: int = GLOBAL_BATCH

    @property
    def name(self) -> str:
        return f"{self.model} {self.size} on {self.devices}"

    @property
    def cluster(self) -> ss.Cluster:
        return ss.Cluster.load(f"v100-32g-8x{self.devices}")

    def workload(self, batch: int) -> Workload:
        """The workload under mixed precision (float16 compute, float32 parameters and states)."""
        found = ss.load_workload(self.spec, {**self.settings, "batch": batch, "meta": True})
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
SWIN_SIZES = {4: (32, 512, 16), 8: (40, 768, 24), 16: (48, 1024, 32), 32: (56, 1536, 32)}
TEXT_SIZES = {  # layers in encoder and decoder each, hidden, vocabulary
    4: (12, 1024, 500_000),
    8: (12, 1536, 750_000),
    16: (16, 2048, 1_000_000),
    32: (24, 2048, 1_500_000),
}
EVOFORMER_SIZES = {4: "s128_r256", 8: "s512_r256", 16: "s512_r384", 32: "s512_r384"}


def gpt(devices: int, seq: int, fused: bool) -> Cell:
    """GPT with long sequences: 32L/2560, 32L/4096, 48L/5120, sequence 2k to 12k. Attention is one
    kernel, or products with all scores in memory, as it was for the papers."""
    layers, hidden, heads = GPT_SIZES[devices]
    settings = {"layers": layers, "hidden": hidden, "heads": heads, "seq": seq, "vocab": 51200}
    size = f"{layers}L/{hidden}, {seq // 1024}k, {'fused' if fused else 'plain'} attention"
    spec = f"{EXAMPLES}/gpt.py:workload"
    settings["fused"] = fused
    return Cell("gpt", size, devices, spec, settings, heads, layers, "layers.*")


def swin(devices: int) -> Cell:
    """Swin at 1,536 pixels and windows of 48 patches."""
    layers, hidden, heads = SWIN_SIZES[devices]
    settings = {"layers": layers, "hidden": hidden, "heads": heads}
    spec = f"{HERE}/models.py:swin"
    size = f"{layers}L/{hidden}"
    return Cell("swin", size, devices, spec, settings, heads, layers, "**.blocks.*")


def text(model: str, devices: int) -> Cell:
    """mBART or T5 with a vocabulary that holds most of the parameters, sequences of 1,024."""
    layers, hidden, vocab = TEXT_SIZES[devices]
    settings = {"layers": layers, "hidden": hidden, "vocab": vocab, "seq": 1024}
    names = ("model.encoder.embed_tokens", "model.decoder.embed_tokens")
    blocks = "model.encoder.layers.* model.decoder.layers.*"
    if model == "t5":
        names = ("encoder.embed_tokens", "decoder.embed_tokens")
        blocks = "encoder.block.* decoder.block.*"
    facts = {"embedding": " ".join(names), "head": "lm_head"}
    spec = f"{HERE}/models.py:{model}"
    size = f"{layers}+{layers}L/{hidden}, {vocab // 1000}k words"
    return Cell(model, size, devices, spec, settings, hidden // 64, 2 * layers, blocks, facts)


def evoformer(devices: int) -> Cell:
    """AlphaFold2's trunk, 48 blocks, three passes, a global batch of 128."""
    config = EVOFORMER_SIZES[devices]
    facts = {"layers": "blocks", "count": 48, "first": "embedder"}
    spec = f"{EXAMPLES}/evoformer.py:workload"
    settings = {"config": config}
    return Cell("evoformer", config, devices, spec, settings, 4, 48, "blocks.*", facts, 128)


def cells() -> list[Cell]:
    """All cells, by model and devices."""
    found = []
    for devices in (4, 8, 16, 32):
        found += [gpt(devices, 2048, True), gpt(devices, 12288, True)]
        found += [gpt(devices, 2048, False), gpt(devices, 12288, False)]
        found += [swin(devices), text("mbart", devices), text("t5", devices), evoformer(devices)]
    return found

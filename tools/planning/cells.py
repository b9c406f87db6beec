"""Cells: a model at its published size on a number of V100s (shared conventions: see README)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import superscaler as ss
from superscaler.workload import Workload

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[1] / "examples"
GLOBAL_BATCH = 256


@dataclass(frozen=True, eq=False)
class Cell:
    """A model, made by the callable `spec` with its settings, on so many V100s.

    `heads` and `layers` limit tensor and pipeline parallelism, `most_stages` conventional
    pipelines. `blocks` are the module patterns that recompute runs again, one region each; they are
    those that match `large` and then `rows` of numbered modules, a name and how many each.
    `depth` names the setting that makes the model deeper,
    `thin` two small values of it; `has_sequence`: there is one to split between products,
    `has_attention`: attention is an operator, so that it can be split as well.
    `embedding` and `head` are modules over a huge vocabulary; `count` modules `repeated`.* run
    several times a step, after `first`.
    """

    model: str
    size: str
    devices: int
    spec: str
    settings: dict[str, Any]
    heads: int
    layers: int
    blocks: str
    rows: tuple[tuple[str, int], ...]
    large: str = ""
    depth: str = "layers"
    thin: tuple[int, int] = (1, 2)
    most_stages: int = 1 << 30
    has_sequence: bool = True
    has_attention: bool = False
    embedding: str = ""
    head: str = ""
    repeated: str = ""
    count: int = 0
    first: str = ""
    global_batch: int = GLOBAL_BATCH

    @property
    def name(self) -> str:
        return f"{self.model} {self.size} on {self.devices}"

    @property
    def cluster(self) -> ss.Cluster:
        return ss.Cluster.load(f"v100-32g-8x{self.devices}")

    @property
    def full_depth(self) -> int:
        return self.settings[self.depth]

    @property
    def num_rows(self) -> int:
        """The blocks in `rows`."""
        return sum(size for _, size in self.rows)

    @property
    def grain(self) -> int:
        """In how many equal groups blocks are treated: a few, where many would be slow to
        simulate."""
        return 4 if self.count else self.num_rows

    def some_blocks(self, first: int, last: int) -> str:
        """Patterns of the blocks in `rows` from group `first` to before `last`."""
        found, start = [], 0
        first, last = (n * self.num_rows // self.grain for n in (first, last))
        for name, size in self.rows:
            a, b = max(first - start, 0), min(last - start, size)
            found += [f"{name}.{{{a}-{b - 1}}}"] if a < b else []
            start += size
        return " ".join(found)

    def workload(self, batch: int, depth: int) -> Workload:
        """The workload under mixed precision (float16 compute, float32 parameters and states)."""
        settings = {**self.settings, self.depth: depth, "batch": batch, "meta": True}
        found = ss.load_workload(self.spec, settings)
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
    settings["fused"] = fused
    size = f"{layers}L/{hidden}, {seq // 1024}k, {'fused' if fused else 'plain'} attention"
    spec = f"{EXAMPLES}/gpt.py:workload"
    return Cell(
        "gpt",
        size,
        devices,
        spec,
        settings,
        heads,
        layers,
        "layers.*",
        (("layers", layers),),
        has_attention=fused,
    )


def swin(devices: int) -> Cell:
    """Swin at 1,536 pixels and windows of 48 patches. The first layers, of most patches, hold most
    activations."""
    layers, hidden, heads = SWIN_SIZES[devices]
    settings = {"layers": layers, "hidden": hidden, "heads": heads}
    spec = f"{HERE}/models.py:swin"
    size = f"{layers}L/{hidden}"
    encoder = "swin.encoder.layers"
    return Cell(
        "swin",
        size,
        devices,
        spec,
        settings,
        heads,
        layers,
        f"{encoder}.*.blocks.*",
        ((f"{encoder}.2.blocks", layers - 6), (f"{encoder}.3.blocks", 2)),
        large=f"{encoder}.{{0-1}}.blocks.*",
        thin=(8, 10),
        has_sequence=False,
    )


def text(model: str, devices: int) -> Cell:
    """mBART or T5 with a vocabulary that holds most of the parameters, sequences of 1,024."""
    layers, hidden, vocab = TEXT_SIZES[devices]
    settings = {"layers": layers, "hidden": hidden, "vocab": vocab, "seq": 1024}
    names = ("model.encoder.embed_tokens", "model.decoder.embed_tokens")
    parts = ("model.encoder.layers", "model.decoder.layers")
    if model == "t5":
        names, parts = (
            ("encoder.embed_tokens", "decoder.embed_tokens"),
            ("encoder.block", "decoder.block"),
        )
    return Cell(
        model,
        f"{layers}+{layers}L/{hidden}, {vocab // 1000}k words",
        devices,
        f"{HERE}/models.py:{model}",
        settings,
        hidden // 64,
        2 * layers,
        " ".join(f"{part}.*" for part in parts),
        tuple((part, layers) for part in parts),
        embedding=" ".join(names),
        head="lm_head",
    )


def evoformer(devices: int) -> Cell:
    """AlphaFold2's trunk, 48 blocks, three passes, a global batch of 128. A conventional pipeline
    runs its layers once, so it has none here."""
    config = EVOFORMER_SIZES[devices]
    return Cell(
        "evoformer",
        config,
        devices,
        f"{EXAMPLES}/evoformer.py:workload",
        {"config": config, "blocks": 48},
        4,
        48,
        "blocks.*",
        (("blocks", 48),),
        depth="blocks",
        most_stages=1,
        repeated="blocks",
        count=48,
        first="embedder",
        global_batch=128,
    )


def cells() -> list[Cell]:
    """All cells, by model and devices."""
    found = []
    for devices in (4, 8, 16, 32):
        found += [gpt(devices, 2048, False), gpt(devices, 12288, False), gpt(devices, 12288, True)]
        found += [swin(devices), text("mbart", devices), text("t5", devices), evoformer(devices)]
    return found

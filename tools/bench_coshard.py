"""Co-shard for real, on this CPU: bytes of temporaries, counted, and step time.

    OMP_NUM_THREADS=1 python tools/bench_coshard.py [--repeat 7] [--out build/bench_coshard.md]

One block of `transformers`' Swin and one layer of its GPT-2 with a long sequence, attention as
plain products (its scores are most of the memory, as in the papers' setting). "recompute" runs the
block's attention and feed-forward again whole (co-shard in 1 part). Temporaries are the most bytes
of tensors alive in a step, less what rests on the rank (parameters, optimizer states, buffers).
Times are medians of steps that take turns; the ratio is the median of the ratios of neighbours.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import GPT2Config, GPT2LMHeadModel, SwinConfig, SwinForImageClassification

sys.path.insert(0, str(Path(__file__).parents[1]))

import superscaler as ss
from superscaler.runtime import RankExecutor, load_rank
from superscaler.runtime.local import lone_rank
from superscaler.runtime.memory import MemoryMeter

PARTS = (1, 2, 4, 8)


@dataclass(frozen=True)
class Block:
    """A model whose memory is in one attention and feed-forward block."""

    name: str
    workload: ss.Workload
    where: str


def gpt_layer() -> Block:
    config = GPT2Config(
        vocab_size=32,
        n_embd=128,
        n_layer=1,
        n_head=16,
        n_positions=2048,
        bos_token_id=0,
        eos_token_id=0,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    )
    config._attn_implementation = "eager"
    tokens = torch.randint(32, (1, 2048))
    batch = {"input_ids": tokens, "labels": tokens}
    return Block("GPT-2 layer, 2,048 tokens", _workload(GPT2LMHeadModel(config), batch), "**.h")


def swin_block() -> Block:
    config = SwinConfig(
        image_size=96,
        patch_size=2,
        window_size=48,
        embed_dim=32,
        depths=[1],
        num_heads=[8],
        drop_path_rate=0.0,
        num_labels=8,
    )
    batch = {"pixel_values": torch.randn(1, 3, 96, 96), "labels": torch.randint(8, (1,))}
    return Block(
        "Swin block, window 48", _workload(SwinForImageClassification(config), batch), "**"
    )


def _workload(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> ss.Workload:
    return ss.Workload(
        step=lambda model, batch: model(**batch).loss,
        model=model,
        optimizer=lambda parameters: torch.optim.AdamW(parameters, lr=1e-3),
        batch=batch,
    )


def executors(block: Block) -> dict[str, RankExecutor]:
    """The block as it is, and co-sharded in each number of parts."""
    work = block.workload
    graph = ss.trace(work.step, work.model, work.batch, work.optimizer)
    plans = {"plain": "data_parallel(dp=1)"}
    for parts in PARTS:
        plans[str(parts)] = f"coshard(data_parallel(dp=1), parts={parts}, where={block.where!r})"
    found = {}
    for name, plan in plans.items():
        program = load_rank(ss.compile(graph, plan).files, 0)
        executor = RankExecutor(program, lone_rank(), optimizer=work.optimizer)
        executor.load_weights(
            {**dict(work.model.named_parameters()), **dict(work.model.named_buffers())}
        )
        executor.step(work.batch)
        found[name] = executor
    return found


def peak(executor: RankExecutor, batch: Any) -> int:
    meter = MemoryMeter(executor)
    meter.step(batch)
    return meter.peak_bytes


def resting(executor: RankExecutor) -> int:
    states = [v for state in executor.optimizer.state.values() for v in state.values()]
    tensors = [*executor.parameters.values(), *executor.buffers.values(), *states]
    return sum(t.nbytes for t in tensors if isinstance(t, torch.Tensor))


def seconds(found: dict[str, RankExecutor], batch: Any, repeat: int) -> dict[str, list[float]]:
    """Step times of all, in turn."""
    times: dict[str, list[float]] = {name: [] for name in found}
    for _ in range(repeat):
        for name, executor in found.items():
            begun = time.perf_counter()
            executor.step(batch)
            times[name].append(time.perf_counter() - begun)
    return times


def rows(block: Block, repeat: int) -> list[str]:
    found = executors(block)
    batch = block.workload.batch
    above = {name: peak(e, batch) - resting(e) for name, e in found.items()}
    times = seconds(found, batch, repeat)
    lines = []
    for name in found:
        ratio = statistics.median(a / b for a, b in zip(times[name], times["1"]))
        shown = {"plain": "no recompute", "1": "recompute"}.get(name, f"{name} parts")
        lines.append(
            f"| {block.name} | {shown} | {above[name] / 2**20:.1f} | "
            f"{above[name] / above['plain']:.3f} | {above[name] / above['1']:.3f} | "
            f"{statistics.median(times[name]) * 1e3:.0f} | {ratio:.2f} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--out", default="build/bench_coshard.md")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    lines = [
        "| block | plan | temporaries MiB | of plain | of recompute | ms | time of recompute |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for make in (gpt_layer, swin_block):
        lines += rows(make(), arguments.repeat)
    print("\n".join(lines))
    path = Path(arguments.out)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

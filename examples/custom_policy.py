"""A parallelization made by hand with the three primitives, on the GPT of gpt.py.

    python examples/custom_policy.py

Three devices: the embeddings on device 2; the rest on devices 0 and 1, which split every
feed-forward between them and do the same work elsewhere; the batch in two halves, one after the
other. The program is compiled into build/custom and verified against the untouched model, all
ranks on threads of this process. It runs as any other:

    torchrun --nproc-per-node 3 -m superscaler.runtime build/custom --workload \\
        examples/gpt.py:workload --set layers=2 --set hidden=64
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import torch

import superscaler as ss

if TYPE_CHECKING:
    from superscaler.transform import Partition

WORKERS = (0, 1)
EMBEDDER = 2
EMBEDDINGS = ("tokens", "positions", "arange")  # modules, or operators outside of modules


def place(partition: Partition) -> Partition:
    """Split, place and order the operators; every step gives a new partition."""
    embedding = set(ss.select(partition.graph, *EMBEDDINGS))
    ffn = set(ss.select_axis(partition, "layers.*.fc1.weight:0"))
    halves = set(ss.select_axis(partition, "batch"))
    rest = set(range(len(partition.graph.operators))) - embedding - ffn

    # How: the batch in halves. They stay on one device, so it is a split in time. What has no batch
    # (a cast of a weight, an update) is left to run once.
    partition = ss.op_trans(partition, halves, ss.Split("batch", 2, "half"))
    # The feed-forward: the axis is in fc1's rows, the activation, fc2's columns, their backwards
    # and their updates. It is one axis, so this is one split.
    partition = ss.op_trans(partition, ffn, ss.Split("layers.*.fc1.weight:0", 2, "part"))
    partition = ss.op_trans(partition, rest, ss.Replicate(2, "part"))

    # Where: the innermost split's parts on different devices.
    partition = ss.op_assign(partition, ffn | rest, WORKERS)
    partition = ss.op_assign(partition, embedding, EMBEDDER)

    # When: the first half's backward before the second half's forward, so that the activations of
    # one half only are alive. Without this line both forwards come first.
    last = ss.select(partition.graph, "layers.0.norm1", phase="backward")
    first = ss.select(partition.graph, "layers.0.norm1", phase="forward")
    return ss.op_order(partition, last, first, (0,), (1,))


def main() -> int:
    """Trace, place, compile and verify; 0 when all ranks agree with the model."""
    sys.path.insert(0, str(Path(__file__).parent))
    from gpt import workload

    small = workload(layers=2, hidden=64)
    graph = ss.trace(small.step, small.model, small.batch, small.optimizer)
    program = ss.compile(graph, place(ss.start(graph)))
    folder = program.save("build/custom")
    print(f"{len(graph.operators)} operators, {program.world_size} ranks, code in {folder}")

    # In float64 equal means equal: the same placing, on the same model in double precision.
    double = ss.load_workload(
        f"{Path(__file__).parent / 'gpt.py'}:workload", {"layers": "2", "hidden": "64"}
    )
    report = ss.verify(double, lambda_plan(double), processes=False)
    print(report.summary)
    return 0 if report.ok else 1


def lambda_plan(workload: ss.Workload) -> Partition:
    return place(ss.start(ss.trace(workload.step, workload.model, workload.batch, workload.optimizer)))


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())

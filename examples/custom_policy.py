"""A parallelization made by hand with the three primitives, on the GPT of gpt.py.

    python examples/custom_policy.py

Three devices: the embeddings on device 2; the rest on devices 0 and 1, which split every
feed-forward between them and do the same work elsewhere; the batch in two halves, one after the
other. It is verified against the untouched model, all ranks on threads of this process, and
compiled into build/custom, which runs as any other program:

    superscaler launch build/custom --steps 20
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

import superscaler as ss

WORKLOAD = f"{Path(__file__).resolve().parent / 'gpt.py'}:workload"
SETTINGS = {"layers": "2", "hidden": "64"}

WORKERS = (0, 1)
EMBEDDER = 2
EMBEDDINGS = ("tokens", "positions", "arange")  # modules, and an operator outside of modules


def policy(graph: ss.Graph) -> ss.Partition:
    """Split, place and order the operators; each primitive gives a new partition."""
    partition = ss.start(graph)
    every = ss.select(graph, "**")
    embedding = set(ss.select(graph, *EMBEDDINGS))
    feed_forward = set(ss.select_axis(partition, "layers.*.fc1.weight:0"))
    batch = ss.select_axis(partition, "batch")
    rest = set(every) - embedding - feed_forward

    # How. The halves of the batch stay on one device, so this is a split in time. What has no
    # batch (the cast of a weight, an update) is left to run once.
    partition = ss.op_trans(partition, batch, ss.Split("batch", 2))
    # fc1's rows, the activation, fc2's columns, their backwards and updates: it is one axis.
    partition = ss.op_trans(partition, feed_forward, ss.Split("layers.*.fc1.weight:0", 2))
    partition = ss.op_trans(partition, rest, ss.Replicate(2))

    # Where. The last split's parts are on different devices, the halves of the batch on the same.
    partition = ss.op_assign(partition, feed_forward | rest, WORKERS)
    partition = ss.op_assign(partition, embedding, EMBEDDER)

    # When. The first half's backward before the second half's forward, so that the activations
    # of one half only are alive.
    forward = ss.select(graph, "layers.0.norm1", phase="forward")
    backward = ss.select(graph, "layers.0.norm1", phase="backward")
    return ss.op_order(partition, backward, forward, (0,), (1,))


def main() -> int:
    """Verify and compile; 0 when all ranks agree with the model."""
    workload = ss.load_workload(WORKLOAD, SETTINGS)
    report = ss.verify(workload, policy, processes=False)
    print(report.summary)

    graph = ss.trace(workload.step, workload.model, workload.batch, workload.optimizer)
    program = ss.compile(graph, policy, header={"workload": WORKLOAD, "settings": SETTINGS})
    folder = program.save("build/custom")
    print(f"{len(graph.operators)} operators, {program.world_size} ranks, code in {folder}")
    return 0 if report.ok else 1


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())

"""Carried: bytes that copies keep on a device while another task than their own runs."""

from __future__ import annotations

from collections import defaultdict
from math import prod

from superscaler.emit.copies import last_out
from superscaler.materialize.program import Program
from superscaler.transform.layout import output_layout


def carried_bytes(program: Program) -> dict[int, int]:
    """Per device, whichever task runs: the most that the last copies out of the task before are
    made from."""
    found: dict[int, int] = defaultdict(int)
    for segment in program.tasks.segments:
        size = sum(_bytes(program, t) for t in last_out(program, segment))
        for d in set(segment.grid.devices.ravel().tolist()) if size else ():
            found[d] = max(found[d], size)
    return dict(found)


def _bytes(program: Program, tensor: int) -> int:
    """Of its largest part."""
    layout = output_layout(program.partition, *program.partition.graph.producer[tensor])
    item = program.partition.graph.tensors[tensor].dtype.itemsize
    return prod(layout.local_sizes((0,) * len(layout.grid.shape))) * item

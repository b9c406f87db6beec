"""Emission: what the emission of one program shares."""

from __future__ import annotations

from dataclasses import dataclass, field

from superscaler.emit.constants import Constants
from superscaler.emit.local import PartIndex
from superscaler.materialize.dependencies import value_name
from superscaler.materialize.program import Conversion, Program
from superscaler.schedule.segments import Segment
from superscaler.transform.layout import comes_out_even


@dataclass
class Emission:
    """What the emission of one program shares: constants, part indices, who reads what."""

    program: Program
    constants: Constants = field(default_factory=Constants)
    parts: dict[object, PartIndex] = field(default_factory=dict)
    read_outside: set[str] = field(
        default_factory=set
    )  # values read outside the segment that makes them
    inline: dict[int, list[Conversion]] = field(
        default_factory=dict
    )  # operator -> at-producer conversions

    def part_index(self, segment: Segment) -> PartIndex:
        return self.parts.setdefault(segment.grid.key, PartIndex(segment.grid, {}))

    def factors(self, tensor: int) -> tuple[int, ...]:
        return self.program.partition.axes.factors[tensor]

    def name(self, tensor: int) -> str:
        return value_name(self.program.partition, tensor)


def is_even(program: Program, segment: Segment) -> bool:
    """Whether all parts of the segment have equal sizes, so that one text serves them all."""
    partition = program.partition
    placed = ((op, partition.placed[op]) for op in segment.operators)
    return all(
        comes_out_even([it.size for it in partition.axes_of(op).iters], p.roles, p.grid.shape)
        for op, p in placed
    )

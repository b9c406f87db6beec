"""The copies of a segment between device and host memory: started early, waited for late."""

from __future__ import annotations

from dataclasses import dataclass, field

from superscaler.materialize.program import Program
from superscaler.ops.copies import TO_DEVICE
from superscaler.schedule.segments import Segment

LEAVING = 2  # copies out under way: each keeps its source on the device until it is waited for


@dataclass
class SegmentCopies:
    """Copies in (`arriving`: operators, by first use) and, by variable, copies out under way."""

    arriving: tuple[int, ...]
    place: dict[int, int]  # the tensor that an arriving operator makes -> its place in `arriving`
    ahead: int
    started: int = 0
    leaving: list[str] = field(default_factory=list)

    def due(self, place: int) -> tuple[int, ...]:
        """The copies in that are to start when the one at `place` is used."""
        end = min(place + self.ahead + 1, len(self.arriving))
        due = self.arriving[self.started : end]
        self.started = max(self.started, end)
        return due

    def out(self, variable: str) -> tuple[str, ...]:
        """Take note of a copy out that has started; those to be waited for now."""
        self.leaving.append(variable)
        count = max(0, len(self.leaving) - LEAVING)
        over, self.leaving = self.leaving[:count], self.leaving[count:]
        return tuple(over)


def segment_copies(program: Program, segment: Segment) -> SegmentCopies:
    """The copies in of tensors that come from outside the segment."""
    graph = program.partition.graph
    position = {op: i for i, op in enumerate(segment.operators)}
    last = len(position)
    first_use: dict[int, int] = {}
    for op in segment.operators:
        operator = graph.operators[op]
        if operator.target == TO_DEVICE:
            made = graph.producer.get(operator.inputs[0], (-1, 0))[0]
            if made not in position:
                readers = [position.get(r, last) for r, _ in graph.consumers[operator.outputs[0]]]
                first_use[op] = min(readers, default=last)
    arriving = tuple(sorted(first_use, key=lambda op: (first_use[op], op)))
    place = {graph.operators[op].outputs[0]: n for n, op in enumerate(arriving)}
    return SegmentCopies(arriving, place, program.partition.copies_ahead)

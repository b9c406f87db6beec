"""The copies of a segment between device and host memory: started early, waited for late.

What a task copies out last is waited for after the task that follows it on the device: an entry of
the schedule of its own (`emit/settle.py`). All other copies are started and waited for inside.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from superscaler.emit.emission import Emission
from superscaler.materialize.program import Program
from superscaler.ops.copies import TO_DEVICE, TO_HOST
from superscaler.schedule.segments import Segment


@dataclass
class SegmentCopies:
    """Copies in (`arriving`: operators, by first use) and, by variable, copies out under way.

    `ahead` copies in are under way before the one in use, and so many copies out, each of which
    keeps its source on the device until it is waited for.
    """

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
        count = max(0, len(self.leaving) - self.ahead)
        over, self.leaving = self.leaving[:count], self.leaving[count:]
        return tuple(over)


def segment_copies(program: Program, segment: Segment) -> SegmentCopies:
    """The copies in of tensors that come from outside the segment; none has started."""
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


def last_out(program: Program, segment: Segment) -> tuple[int, ...]:
    """The tensors that are copied out last: as many as may be under way."""
    operators = (program.partition.graph.operators[op] for op in segment.operators)
    out = [op.outputs[0] for op in operators if op.target == TO_HOST]
    return tuple(out[-program.partition.copies_ahead :])


def left_open(emission: Emission, segment: Segment) -> tuple[int, ...]:
    """Those of them that others read: they may be under way when the segment has run."""
    tensors = last_out(emission.program, segment)
    return tuple(t for t in tensors if emission.name(t) in emission.read_outside)

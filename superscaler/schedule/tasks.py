"""Tasks: one segment at one time index on its devices; what each waits for."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from itertools import product

from superscaler.errors import ScheduleError
from superscaler.schedule.macros import sequence_edges
from superscaler.schedule.segments import Edge, Segment
from superscaler.transform.match import ALL, FIRST
from superscaler.transform.partition import Partition


@dataclass(frozen=True, slots=True)
class Task:
    """Segment `segment` at time index `time`; `devices` are the ranks that run it together."""

    id: int
    segment: int
    time: tuple[int, ...]
    devices: tuple[int, ...]


@dataclass(frozen=True)
class TaskGraph:
    """All tasks of a step and the tasks each waits for, by kind of edge ("data" or "order", with
    the line and the actions where a plan's order says so)."""

    segments: tuple[Segment, ...]
    tasks: tuple[Task, ...]
    before: tuple[dict[int, str], ...]  # task -> {task it waits for: kind}
    home: dict[int, int] = field(default_factory=dict)  # operator -> segment

    @cached_property
    def number(self) -> dict[tuple[int, tuple[int, ...]], int]:
        """(segment, time index) -> task id."""
        return {(t.segment, t.time): t.id for t in self.tasks}


def build_tasks(partition: Partition, segments: list[Segment], edges: list[Edge]) -> TaskGraph:
    """Unroll the segments over time, connect the tasks by data, by `op_order` and by sequence."""
    home = {op: s.id for s in segments for op in s.operators}
    tasks: list[Task] = []
    number: dict[tuple[int, tuple[int, ...]], int] = {}
    for s in segments:
        for time in product(*(range(n) for n in s.time_shape)):
            number[s.id, time] = len(tasks)
            devices = tuple(sorted(int(d) for d in s.grid.at(time).ravel()))
            tasks.append(Task(len(tasks), s.id, time, devices))
    before: list[dict[int, str]] = [{} for _ in tasks]
    links = {(e.kind, home[e.producer], home[e.reader], e.match.sources) for e in edges}
    for kind, a, b, sources in sorted(links):
        if a != b:
            _connect(segments[a], segments[b], sources, kind, number, before)
    _connect_orders(partition, segments, home, number, before)
    plain = [(t.segment, t.time[0] if t.time else 0, t.devices) for t in tasks]
    for (task, other), kind in sequence_edges(partition, segments, plain, before).items():
        before[task].setdefault(other, kind)
    return TaskGraph(tuple(segments), tuple(tasks), tuple(before), home)


def _connect(
    a: Segment,
    b: Segment,
    sources: tuple[int, ...],
    kind: str,
    number: dict[tuple[int, tuple[int, ...]], int],
    before: list[dict[int, str]],
) -> None:
    for time in product(*(range(n) for n in b.time_shape)):
        waits = before[number[b.id, time]]
        for source in source_times(sources, a.time_shape, time):
            waits.setdefault(number[a.id, source], kind)


def source_times(
    sources: tuple[int, ...], shape: tuple[int, ...], time: tuple[int, ...]
) -> list[tuple[int, ...]]:
    """The producer's time indices that a reader's part at `time` needs."""
    ranges = [
        range(n) if s == ALL else (0,) if s == FIRST else (time[s],) for s, n in zip(sources, shape)
    ]
    return list(product(*ranges))


def _connect_orders(
    partition: Partition,
    segments: list[Segment],
    home: dict[int, int],
    number: dict[tuple[int, tuple[int, ...]], int],
    before: list[dict[int, str]],
) -> None:
    for order in partition.orders:
        a, b = segments[home[order.first]], segments[home[order.second]]
        for first in _times(a, order.first_time):
            for second in _times(b, order.second_time):
                aligned = order.first_time is not None or order.second_time is not None
                same_shape = a.time_shape == b.time_shape
                if not aligned and same_shape and first != second:
                    continue
                x, y = number[a.id, first], number[b.id, second]
                if x != y:
                    before[y].setdefault(x, "order")


def _times(segment: Segment, only: tuple[int, ...] | None) -> list[tuple[int, ...]]:
    if only is None:
        return list(product(*(range(n) for n in segment.time_shape)))
    if len(only) != len(segment.time_shape) or any(
        not 0 <= i < n for i, n in zip(only, segment.time_shape)
    ):
        raise ScheduleError(
            f"op_order: part {only} does not exist; "
            f"{segment.name} has time parts of shape {segment.time_shape}"
        )
    return [only]

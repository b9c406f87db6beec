"""Check: a schedule against its problem, by rules that share no code with what made it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from superscaler.errors import ScheduleError
from superscaler.schedule.problem import Problem

LISTED = 5  # problems in an error


def check(problem: Problem, start: Sequence[int]) -> list[str]:
    """Everything that is wrong with these start times, [] when nothing is.

    Every work has a start of 0 or later, nothing starts before what it waits for has ended (and the
    latency has passed), no lane runs two works at a time, no memory is over its capacity.
    """
    if len(start) != len(problem.works):
        return [f"{len(problem.works)} works, but {len(start)} start times"]
    return [
        *_negative(problem, start),
        *_early(problem, start),
        *_overlapping(problem, start),
        *_too_full(problem, start),
    ]


def require(problem: Problem, start: Sequence[int]) -> None:
    """Raises ScheduleError that lists what is wrong, if anything is."""
    found = check(problem, start)
    if found:
        listed = "\n  ".join(found[:LISTED])
        more = f"\n  and {len(found) - LISTED} more" if len(found) > LISTED else ""
        raise ScheduleError(f"the schedule is not valid:\n  {listed}{more}")


def _negative(problem: Problem, start: Sequence[int]) -> Iterator[str]:
    for work, at in zip(problem.works, start):
        if at < 0:
            yield f"{work.name} starts at {at}, before the step does"


def _early(problem: Problem, start: Sequence[int]) -> Iterator[str]:
    for edge in problem.edges:
        before, after = problem.works[edge.before], problem.works[edge.after]
        possible = start[edge.before] + before.duration + edge.latency
        if start[edge.after] < possible:
            yield (
                f"{after.name} starts at {start[edge.after]}, {before.name} lets it start at "
                f"{possible} ({edge.kind})"
            )


def _overlapping(problem: Problem, start: Sequence[int]) -> Iterator[str]:
    by_lane: dict[int, list[tuple[int, int, str]]] = {}
    for work, at in zip(problem.works, start):
        for lane in work.lanes:
            if work.duration:
                by_lane.setdefault(lane, []).append((at, at + work.duration, work.name))
    for lane, spans in sorted(by_lane.items()):
        spans.sort()
        for (_, end, name), (begin, _, other) in pairwise(spans):
            if begin < end:
                lane_name = problem.lanes[lane].name
                yield f"{other} starts at {begin} while {name} runs until {end} (lane {lane_name})"


def _too_full(problem: Problem, start: Sequence[int]) -> Iterator[str]:
    ends = [at + work.duration for work, at in zip(problem.works, start)]
    steps: dict[int, dict[int, int]] = {m: {} for m in range(len(problem.memories))}
    for hold in problem.holds:
        table = steps[hold.memory]
        begin, end = min(start[w] for w in hold.first), max(ends[w] for w in hold.last)
        if begin < end:
            table[begin] = table.get(begin, 0) + hold.amount
            table[end] = table.get(end, 0) - hold.amount
    for number, memory in enumerate(problem.memories):
        held, worst, when = memory.resident, memory.resident, 0
        for at in sorted(steps[number]):
            held += steps[number][at]
            if held > worst:
                worst, when = held, at
        if worst > memory.capacity:
            yield (
                f"{memory.kind} memory of device {memory.devices[0]} holds {worst} bytes at "
                f"{when}, {worst - memory.capacity} more than its {memory.capacity}"
            )

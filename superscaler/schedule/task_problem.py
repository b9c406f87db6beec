"""Task problem: the tasks of a real program as a scheduling problem."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from itertools import product

from superscaler.schedule.costs import Held, StepCosts
from superscaler.schedule.linear import Timed
from superscaler.schedule.problem import Edge, Hold, Kind, Lane, Memory, Problem, Schedule, Work
from superscaler.schedule.segments import Segment
from superscaler.schedule.sent import sent_between
from superscaler.schedule.tasks import TaskGraph, source_times

TICKS = 100_000  # of a step that runs its tasks one after the other on each device
_LABEL = re.compile(r"(forward|backward|weight|update)_(\d+)")


def task_problem(tasks: TaskGraph, costs: StepCosts, links: bool = True) -> Problem:
    """Works are tasks, by number, then what is sent between them; devices that run the same tasks
    are one lane and one memory. Without `links` what is sent is a latency."""
    groups = _device_groups(tasks)
    lane_of = {d: i for i, group in enumerate(groups) for d in group}
    tick_us = _tick_us(tasks, costs, lane_of)
    splits = {s for label in _labels(tasks) if (s := _stage(label, "weight")) >= 0}
    works = []
    for task in tasks.tasks:
        segment = tasks.segments[task.segment]
        kind, stage = _kind(segment, splits)
        microbatch = task.time[0] if task.time and stage >= 0 else -1
        lanes = tuple(sorted({lane_of[d] for d in task.devices}))
        duration = max(1, round(costs.duration_us[task.segment] / tick_us))
        name = f"{segment.name}{list(task.time)}"
        works.append(Work(name, kind, stage, microbatch, lanes, duration))
    sent = sent_between(tasks, costs.transfers, groups, works, tick_us, links)
    return Problem(
        (*(Lane(group) for group in groups), *sent.lanes),
        (*works, *sent.works),
        (*_edges(tasks, sent.latency), *sent.edges),
        tuple(_memories(groups, costs)),
        tuple(_holds(tasks, costs, lane_of)),
        tick_us,
    )


def timed(tasks: TaskGraph, problem: Problem, schedule: Schedule) -> Timed:
    """The schedule as the order that all devices follow."""
    position = {t: i for i, t in enumerate(_topological(tasks))}
    order = sorted(position, key=lambda t: (schedule.start[t], position[t]))
    start = [float(schedule.start[t.id]) for t in tasks.tasks]
    end = [s + w.duration for s, w in zip(start, problem.works)]
    return Timed(tuple(order), tuple(start), tuple(end))


def _device_groups(tasks: TaskGraph) -> list[tuple[int, ...]]:
    """Devices by the tasks they run: those that run the same ones are together."""
    runs: dict[int, list[int]] = defaultdict(list)
    for task in tasks.tasks:
        for d in task.devices:
            runs[d].append(task.id)
    groups: dict[tuple[int, ...], list[int]] = {}
    for device in sorted(runs):
        groups.setdefault(tuple(runs[device]), []).append(device)
    return [tuple(devices) for devices in groups.values()]


def _tick_us(tasks: TaskGraph, costs: StepCosts, lane_of: dict[int, int]) -> float:
    load: dict[int, float] = defaultdict(float)
    for task in tasks.tasks:
        for lane in {lane_of[d] for d in task.devices}:
            load[lane] += costs.duration_us[task.segment]
    return max(max(load.values(), default=1.0) / TICKS, 1e-3)


def _labels(tasks: TaskGraph) -> set[str]:
    return {s.label for s in tasks.segments}


def _stage(label: str, phase: str) -> int:
    found = _LABEL.fullmatch(label)
    return int(found.group(2)) if found and found.group(1) == phase else -1


def _kind(segment: Segment, splits: set[int]) -> tuple[Kind, int]:
    """What a segment's tasks are to the scheduler, and their stage (-1: none of an order's)."""
    found = _LABEL.fullmatch(segment.label)
    if found is None:
        return Kind.OTHER, -1
    phase, stage = found.group(1), int(found.group(2))
    if phase == "update":
        return Kind.UPDATE, -1
    if not segment.time_shape:
        return Kind.OTHER, -1
    if phase == "backward":
        return (Kind.BACKWARD if stage in splits else Kind.FUSED), stage
    return (Kind.FORWARD if phase == "forward" else Kind.WEIGHT), stage


def _edges(tasks: TaskGraph, latency: Mapping[tuple[int, int], int]) -> list[Edge]:
    return [
        Edge(b, task.id, latency.get((b, task.id), 0) if kind == "data" else 0, kind)
        for task, befores in zip(tasks.tasks, tasks.before)
        for b, kind in befores.items()
    ]


def _memories(groups: list[tuple[int, ...]], costs: StepCosts) -> list[Memory]:
    unlimited = 1 << 60
    return [
        Memory(
            group,
            min(costs.capacity_bytes.get(d, unlimited) for d in group),
            max(costs.resident_bytes.get(d, 0) for d in group),
        )
        for group in groups
    ]


def _holds(tasks: TaskGraph, costs: StepCosts, lane_of: dict[int, int]) -> list[Hold]:
    holds = []
    for task in tasks.tasks:
        if costs.temporary_bytes[task.segment]:
            for memory in sorted({lane_of[d] for d in task.devices}):
                amount = costs.temporary_bytes[task.segment]
                holds.append(Hold(memory, amount, (task.id,), (task.id,), "temporary"))
    for held in costs.held:
        holds += _holds_of(tasks, held, lane_of)
    return holds


def _holds_of(tasks: TaskGraph, held: Held, lane_of: dict[int, int]) -> list[Hold]:
    """A hold for each part in time (one for all where they are added up), on each memory."""
    source, home = tasks.segments[held.source], tasks.segments[held.home]
    readers: dict[tuple[int, ...], set[int]] = defaultdict(set)
    for reader in held.readers:
        shape = tasks.segments[reader.segment].time_shape
        for time in product(*(range(n) for n in shape)):
            for made in source_times(reader.sources, source.time_shape, time):
                readers[made].add(tasks.number[reader.segment, time])
    makers = {t: tasks.number[held.source, t] for t in readers}
    groups: list[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]
    if held.is_sum:
        last = tuple(sorted({*makers.values()} | {r for rs in readers.values() for r in rs}))
        groups = [(tuple(sorted(makers.values())), last, ())]
    else:
        groups = [((makers[t],), tuple(sorted(rs)), t) for t, rs in sorted(readers.items())]
    found = []
    for first, last, time in groups:
        at = time if len(time) == len(home.time_shape) else (0,) * len(home.time_shape)
        for memory in sorted({lane_of[int(d)] for d in home.grid.at(at).ravel()}):
            found.append(Hold(memory, held.num_bytes, first, last, home.name))
    return found


def _topological(tasks: TaskGraph) -> list[int]:
    waiting = [len(b) for b in tasks.before]
    after: list[list[int]] = [[] for _ in waiting]
    for t, befores in enumerate(tasks.before):
        for b in befores:
            after[b].append(t)
    order = [t for t, n in enumerate(waiting) if not n]
    for t in order:
        for n in after[t]:
            waiting[n] -= 1
            if not waiting[n]:
                order.append(n)
    return order

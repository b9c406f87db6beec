"""Validate: a schedule checked by rules that share no code with what made it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter

from superscaler.errors import ScheduleError
from superscaler.schedule.linear import Timed
from superscaler.schedule.tasks import TaskGraph

ROUNDING = 1e-9  # relative to the schedule's length: what times may overlap by


def validate_schedule(graph: TaskGraph, timed: Timed) -> None:
    """Check that the order can run: acyclic, every task once, nothing before what it waits for.

    Raises ScheduleError naming the first tasks that break a rule, or the cycle.
    """
    _check_acyclic(graph)
    _check_complete(graph, timed)
    for problem in (*_early_starts(graph, timed), *_overlaps(graph, timed)):
        raise ScheduleError(f"the schedule is not valid: {problem}")


def _check_acyclic(graph: TaskGraph) -> None:
    try:
        TopologicalSorter({t: b.keys() for t, b in enumerate(graph.before)}).prepare()
    except CycleError as error:
        first_to_last: list[int] = error.args[1]
        lines = ["the order is cyclic: these tasks wait for each other"]
        for waited, waiting in itertools.pairwise(first_to_last):
            kind = graph.before[waiting][waited]
            lines.append(f"  {_name(graph, waiting)} waits for {_name(graph, waited)} ({kind})")
        raise ScheduleError("\n".join(lines)) from None


def _check_complete(graph: TaskGraph, timed: Timed) -> None:
    count = len(graph.tasks)
    if sorted(timed.order) != list(range(count)):
        missing = sorted(set(range(count)) - set(timed.order))
        what = f"{_name(graph, missing[0])} never runs" if missing else "a task runs twice"
        raise ScheduleError(f"the schedule is not valid: {what}")


def _early_starts(graph: TaskGraph, timed: Timed) -> Iterator[str]:
    """Edges whose end comes, in time or in the list, before their start is through."""
    position = {task: i for i, task in enumerate(timed.order)}
    slack = ROUNDING * max(timed.end, default=0.0)
    for task, befores in enumerate(graph.before):
        for b, kind in befores.items():
            if position[b] > position[task] or timed.end[b] > timed.start[task] + slack:
                yield (
                    f"{_name(graph, task)} starts at {timed.start[task]:g}, before "
                    f"{_name(graph, b)} ends at {timed.end[b]:g} ({kind})"
                )


def _overlaps(graph: TaskGraph, timed: Timed) -> Iterator[str]:
    """Tasks that share a device and, in the list's order, run at the same time on it."""
    slack = ROUNDING * max(timed.end, default=0.0)
    latest: dict[int, int] = {}
    for task in timed.order:
        for device in graph.tasks[task].devices:
            other = latest.get(device)
            if other is not None and timed.end[other] > timed.start[task] + slack:
                yield (
                    f"{_name(graph, task)} starts at {timed.start[task]:g} while "
                    f"{_name(graph, other)} runs until {timed.end[other]:g} "
                    f"(resource: rank {device})"
                )
            latest[device] = task


def _name(graph: TaskGraph, task: int) -> str:
    found = graph.tasks[task]
    ranks = ", ".join(str(d) for d in found.devices)
    return f"{graph.segments[found.segment].name}{list(found.time)} on ranks {ranks}"

"""Linear order: one order of all tasks that every device follows, by simulated start time."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

from superscaler.errors import ScheduleError
from superscaler.schedule.tasks import TaskGraph


@dataclass(frozen=True)
class Timed:
    """Tasks in execution order, with the start and end time of each (in cost units)."""

    order: tuple[int, ...]
    start: tuple[float, ...]
    end: tuple[float, ...]


def linearize(graph: TaskGraph, cost: list[float]) -> Timed:
    """List-schedule the tasks: each starts as soon as what it waits for and its devices allow.

    Ties go to the task that comes first in the graph. Raises ScheduleError with a cycle when the
    order edges contradict the data dependencies.
    """
    count = len(graph.tasks)
    after: list[list[int]] = [[] for _ in range(count)]
    waiting = [len(b) for b in graph.before]
    for task, befores in enumerate(graph.before):
        for b in befores:
            after[b].append(task)
    free: dict[int, float] = {}
    start, end = [0.0] * count, [0.0] * count
    ready = [(0.0, t) for t in range(count) if not waiting[t]]
    heapq.heapify(ready)
    order: list[int] = []
    while ready:
        at, t = heapq.heappop(ready)
        devices = graph.tasks[t].devices
        possible = max([at, *(free.get(d, 0.0) for d in devices)])
        if possible > at:  # a device is busy: come back when it is free
            heapq.heappush(ready, (possible, t))
            continue
        start[t], end[t] = at, at + cost[t]
        order.append(t)
        for d in devices:
            free[d] = end[t]
        for n in after[t]:
            waiting[n] -= 1
            if not waiting[n]:
                heapq.heappush(ready, (max(end[b] for b in graph.before[n]), n))
    if len(order) < count:
        raise ScheduleError(_cycle_text(graph, set(range(count)) - set(order)))
    return Timed(tuple(order), tuple(start), tuple(end))


def has_cycle(graph: TaskGraph) -> bool:
    """Whether some tasks wait for each other."""
    after: list[list[int]] = [[] for _ in graph.tasks]
    waiting = [len(befores) for befores in graph.before]
    for task, befores in enumerate(graph.before):
        for b in befores:
            after[b].append(task)
    ready = [t for t, count in enumerate(waiting) if not count]
    done = 0
    while ready:
        done += 1
        for n in after[ready.pop()]:
            waiting[n] -= 1
            if not waiting[n]:
                ready.append(n)
    return done < len(graph.tasks)


def find_cycle(graph: TaskGraph, among: set[int]) -> list[int]:
    """A cycle of tasks in which each waits for the next; `among` must contain one."""
    task = min(among)
    path: list[int] = []
    seen: dict[int, int] = {}
    while task not in seen:
        seen[task] = len(path)
        path.append(task)
        waits = [b for b in graph.before[task] if b in among]
        if not waits:
            among = among - {task}
            path, seen, task = [], {}, min(among)
        else:
            task = min(waits)
    return path[seen[task] :]


def _cycle_text(graph: TaskGraph, stuck: set[int]) -> str:
    cycle = find_cycle(graph, stuck)
    lines = ["the order is cyclic: these tasks wait for each other"]
    for task, waits_for in zip(cycle, [*cycle[1:], cycle[0]]):
        kind = graph.before[task][waits_for]
        lines.append(f"  {describe(graph, task)} waits for {describe(graph, waits_for)} ({kind})")
    lines.append("remove one of the order edges, or order the parts differently")
    return "\n".join(lines)


def describe(graph: TaskGraph, task: int) -> str:
    """A task for an error: its segment, time index, operators and ranks."""
    t = graph.tasks[task]
    segment = graph.segments[t.segment]
    ranks = ",".join(str(d) for d in t.devices)
    what = f" ({segment.contents})" if segment.contents else ""
    return f"{segment.name}{list(t.time)}{what} [ranks {ranks}]"

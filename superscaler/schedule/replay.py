"""Replay: the earliest start of every work, when each lane runs its works in a given order."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from superscaler.errors import ScheduleError
from superscaler.schedule.memory import fits
from superscaler.schedule.problem import Problem

OBJECTIVES = ("makespan", "span")
LaneOrder = Sequence[Sequence[int] | None]


def replay(problem: Problem, order: LaneOrder) -> tuple[int, ...]:
    """Earliest starts, in ticks, when every lane runs its works in the order listed for it.

    Works that a lane's list leaves out, or all where it is None, run as soon as they can; of two
    that can at the same tick, what is listed comes first, then the smaller number.

    Raises ScheduleError with the cycle when orders and edges contradict each other, and when a
    list names a work twice or one that is not its lane's.
    """
    after, waiting, listed = _links(problem, order)
    if all(
        works is not None and len(works) == len(problem.on_lane[lane])
        for lane, works in enumerate(order)
    ):
        start, done = _run_listed(problem, after, waiting)
    else:
        start, done = _run(problem, after, waiting, listed)
    if done < len(problem.works):
        raise ScheduleError(_cycle_text(problem, order, waiting))
    return tuple(start)


def length(problem: Problem, start: Sequence[int], objective: str = "makespan") -> int:
    """What a schedule is judged by, in ticks.

    "makespan": the end of the last work. "span": the longest time that a compute lane takes from
    its first start to its last end (devices that need not wait for each other between steps).
    """
    ends = [s + work.duration for s, work in zip(start, problem.works)]
    if objective == "makespan":
        return max(ends, default=0)
    if objective != "span":
        raise ScheduleError(f"unknown objective {objective!r}; use one of {', '.join(OBJECTIVES)}")
    spans = [
        max(ends[w] for w in works) - min(start[w] for w in works)
        for lane, works in zip(problem.lanes, problem.on_lane)
        if works and lane.kind == "compute"
    ]
    return max(spans, default=0)


def lane_order(problem: Problem, start: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Per lane: its works in the order of a schedule, such that `replay` of it is no later.

    Works without duration that start together keep the order of their edges.
    """
    rank = _ranks(problem, start)
    return tuple(tuple(sorted(works, key=rank.__getitem__)) for works in problem.on_lane)


def earliest(problem: Problem, start: Sequence[int]) -> tuple[int, ...]:
    """The same order on every lane with nothing later than it has to be; as it was, where memories
    have no room for that."""
    early = replay(problem, lane_order(problem, start))
    return early if fits(problem, early) else tuple(start)


def _ranks(problem: Problem, start: Sequence[int]) -> list[int]:
    """Positions of the works in an order by start time that no edge runs against."""
    waiting = [len(edges) for edges in problem.incoming]
    ready = [(start[w], work.duration, w) for w, work in enumerate(problem.works) if not waiting[w]]
    heapq.heapify(ready)
    rank, count = [0] * len(start), 0
    while ready:
        *_, work = heapq.heappop(ready)
        rank[work], count = count, count + 1
        for edge in problem.outgoing[work]:
            waiting[edge.after] -= 1
            if not waiting[edge.after]:
                after = edge.after
                heapq.heappush(ready, (start[after], problem.works[after].duration, after))
    return rank


def _links(
    problem: Problem, order: LaneOrder
) -> tuple[list[list[tuple[int, int]]], list[int], list[bool]]:
    """Per work: (who waits for it, latency), how many it waits for, whether a list names it."""
    if len(order) != len(problem.lanes):
        raise ScheduleError(
            f"an order of {len(order)} lanes for a problem of {len(problem.lanes)}; "
            "give a list, or None, per lane"
        )
    after = [[(e.after, e.latency) for e in edges] for edges in problem.outgoing]
    waiting = [len(edges) for edges in problem.incoming]
    listed = [False] * len(problem.works)
    for lane, works in enumerate(order):
        _check_listed(problem, lane, works or ())
        for w in works or ():
            listed[w] = True
        for before, w in zip(works or (), (works or ())[1:]):
            after[before].append((w, 0))
            waiting[w] += 1
    return after, waiting, listed


def _check_listed(problem: Problem, lane: int, works: Sequence[int]) -> None:
    if len(set(works)) < len(works):
        twice = next(w for i, w in enumerate(works) if w in works[:i])
        name = problem.works[twice].name
        raise ScheduleError(f"the order of lane {problem.lanes[lane].name} names {name} twice")
    for w in works:
        if lane not in problem.works[w].lanes:
            raise ScheduleError(
                f"the order of lane {problem.lanes[lane].name} names {problem.works[w].name}, "
                f"which runs on {', '.join(problem.lanes[i].name for i in problem.works[w].lanes)}"
            )


def _run_listed(
    problem: Problem, after: list[list[tuple[int, int]]], waiting: list[int]
) -> tuple[list[int], int]:
    """Starts where every lane is fully listed: longest paths."""
    start = [0] * len(problem.works)
    duration = [work.duration for work in problem.works]
    ready = [w for w, count in enumerate(waiting) if not count]
    done = 0
    while ready:
        w = ready.pop()
        done += 1
        end = start[w] + duration[w]
        for n, latency in after[w]:
            start[n] = max(start[n], end + latency)
            waiting[n] -= 1
            if not waiting[n]:
                ready.append(n)
    return start, done


def _run(
    problem: Problem, after: list[list[tuple[int, int]]], waiting: list[int], listed: list[bool]
) -> tuple[list[int], int]:
    """Starts where some works are not listed: in order of time, as lanes become free."""
    start = [0] * len(problem.works)
    free = [0] * len(problem.lanes)
    ready = [(0, not listed[w], w) for w, count in enumerate(waiting) if not count]
    heapq.heapify(ready)
    done = 0
    while ready:
        at, is_free, w = heapq.heappop(ready)
        work = problem.works[w]
        possible = max([at, *(free[lane] for lane in work.lanes)])
        if possible > at:  # a lane is busy: come back when it is free
            heapq.heappush(ready, (possible, is_free, w))
            continue
        start[w], end, done = at, at + work.duration, done + 1
        for lane in work.lanes:
            free[lane] = end
        for n, latency in after[w]:
            start[n] = max(start[n], end + latency)
            waiting[n] -= 1
            if not waiting[n]:
                heapq.heappush(ready, (start[n], not listed[n], n))
    return start, done


def _cycle_text(problem: Problem, order: LaneOrder, waiting: list[int]) -> str:
    stuck = {w for w, count in enumerate(waiting) if count}
    reasons: dict[int, dict[int, str]] = {w: {} for w in stuck}
    for lane, works in enumerate(order):
        for before, w in zip(works or (), (works or ())[1:]):
            if before in stuck and w in stuck:
                reasons[w][before] = f"resource: lane {problem.lanes[lane].name}"
    for w in stuck:
        for edge in problem.incoming[w]:
            if edge.before in stuck:
                reasons[w][edge.before] = edge.kind
    lines = ["the order is cyclic: these works wait for each other"]
    cycle = _cycle(reasons)
    for w, waits_for in zip(cycle, [*cycle[1:], cycle[0]]):
        names = (problem.works[w].name, problem.works[waits_for].name)
        lines.append(f"  {names[0]} waits for {names[1]} ({reasons[w][waits_for]})")
    lines.append("change the order of one of these works")
    return "\n".join(lines)


def _cycle(reasons: dict[int, dict[int, str]]) -> list[int]:
    """Works each of which waits for the next, and the last for the first.

    All of `reasons` are stuck, so each waits for some other that is, or for what one on a cycle
    does: following the first such, a work comes twice.
    """
    work = min(w for w, befores in reasons.items() if befores)
    path: list[int] = []
    while work not in path:
        path.append(work)
        work = min(reasons[work])
    return path[path.index(work) :]

"""Bound: how long any schedule of a problem takes at least."""

from __future__ import annotations

import heapq

from superscaler.errors import ScheduleError
from superscaler.schedule.classes import fifo_pairs
from superscaler.schedule.problem import Problem


def lower_bound(problem: Problem, objective: str = "makespan") -> int:
    """Ticks that no schedule can beat: the longest chain, and for each lane its works with what
    must come before and after them.

    The latter is the preemptive one-machine bound (Jackson's rule with heads and tails: Carlier,
    1982). For the objective "span" only the works of a lane count.
    """
    if objective == "span":
        loads = (sum(problem.works[w].duration for w in on) for on in problem.on_lane)
        return max(loads, default=0)
    heads, tails = heads_and_tails(problem)
    chains = (h + w.duration + t for h, w, t in zip(heads, problem.works, tails))
    lanes = (_one_lane(problem, on, heads, tails) for on in problem.on_lane if on)
    return max((*chains, *lanes), default=0)


def heads_and_tails(problem: Problem) -> tuple[list[int], list[int]]:
    """Per work: ticks that must pass before it starts, and after it ends, along any chain.

    Works that may be sorted without loss (`fifo_pairs`) wait for each other, too.
    Raises ScheduleError when works wait for each other.
    """
    count = len(problem.works)
    after: list[list[tuple[int, int]]] = [[] for _ in range(count)]
    waiting = [0] * count
    links = [(e.before, e.after, e.latency) for e in problem.edges]
    lanes = [set(w.lanes) for w in problem.works]
    links += [(a, b, 0) for a, b in fifo_pairs(problem) if lanes[a] & lanes[b]]
    for a, b, latency in links:
        after[a].append((b, latency))
        waiting[b] += 1
    order = [w for w in range(count) if not waiting[w]]
    heads, tails = [0] * count, [0] * count
    for w in order:
        for n, latency in after[w]:
            heads[n] = max(heads[n], heads[w] + problem.works[w].duration + latency)
            waiting[n] -= 1
            if not waiting[n]:
                order.append(n)
    if len(order) < count:
        stuck = min(set(range(count)) - set(order))
        raise ScheduleError(f"{problem.works[stuck].name} waits for itself: the edges are cyclic")
    for w in reversed(order):
        for n, latency in after[w]:
            tails[w] = max(tails[w], latency + problem.works[n].duration + tails[n])
    return heads, tails


def _one_lane(problem: Problem, on: tuple[int, ...], heads: list[int], tails: list[int]) -> int:
    """Jackson's preemptive schedule: at any time run what has the longest tail."""
    coming = sorted((heads[w], -tails[w], problem.works[w].duration) for w in on)
    ready: list[list[int]] = []  # [-tail, ticks left]
    now = best = at = 0
    while at < len(coming) or ready:
        if not ready:
            now = max(now, coming[at][0])
        while at < len(coming) and coming[at][0] <= now:
            heapq.heappush(ready, [coming[at][1], coming[at][2]])
            at += 1
        until = coming[at][0] if at < len(coming) else now + ready[0][1]
        ran = min(ready[0][1], until - now)
        now += ran
        ready[0][1] -= ran
        if not ready[0][1]:
            best = max(best, now - heapq.heappop(ready)[0])
    return best

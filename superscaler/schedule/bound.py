"""Bound: how long any schedule of a problem takes at least."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from superscaler.errors import ScheduleError
from superscaler.schedule.idle import memory_bounds
from superscaler.schedule.links import Links, Waits, links_of, reverse
from superscaler.schedule.problem import Problem

THOROUGH = 8_000_000  # pairs of works of one lane up to which sets of works are looked at


@dataclass(frozen=True, slots=True)
class Limits:
    """Per work: ticks that must pass before it starts (`heads`) and after it ends (`tails`)."""

    heads: list[int]
    tails: list[int]
    links: Links


def lower_bound(problem: Problem, objective: str = "makespan") -> int:
    """Ticks that no schedule can beat: the longest chain, and for each lane its works with what
    must come before and after them.

    Chains go through data, through microbatches that are alike, and through memory that must be
    free again (`links_of`). A lane's works are bounded by the preemptive one-machine bound
    (Jackson's rule with heads and tails: Carlier, 1982). Full memories keep lanes idle
    (`memory_bounds`). For "span" heads and tails are counted
    from the lane's own first start and to its own last end.
    """
    if objective == "span":
        return _span_bound(problem, links_of(problem))
    return bound_by(problem, limits_of(problem))


def bound_by(problem: Problem, limits: Limits) -> int:
    """The bound on the makespan that heads and tails give."""
    heads, tails = limits.heads, limits.tails
    chains = (h + w.duration + t for h, w, t in zip(heads, problem.works, tails))
    lanes = (_one_lane(problem, on, heads, tails) for on in problem.on_lane if on)
    full = memory_bounds(problem, heads, tails)
    return max((*chains, *lanes, *full), default=0)


def limits_of(problem: Problem) -> Limits:
    """Heads and tails along all links.

    Raises ScheduleError when works wait for each other.
    """
    return limits_along(problem, links_of(problem))


def limits_along(problem: Problem, links: Links) -> Limits:
    """Heads and tails along given links."""
    back = reverse(links.after)
    order = _topological(problem, links.after)
    thorough = sum(len(on) ** 2 for on in problem.on_lane) <= THOROUGH
    count = [0] * len(order)
    heads = _passed(problem, links.after, order, count, thorough)
    tails = _passed(problem, back, order[::-1], count, thorough)
    return Limits(heads, tails, links)


def _topological(problem: Problem, after: Waits) -> list[int]:
    waiting = [0] * len(after)
    for waits in after:
        for b, _ in waits:
            waiting[b] += 1
    order = [w for w, n in enumerate(waiting) if not n]
    for w in order:
        for b, _ in after[w]:
            waiting[b] -= 1
            if not waiting[b]:
                order.append(b)
    if len(order) < len(after):
        stuck = min(set(range(len(after))) - set(order))
        raise ScheduleError(f"{problem.works[stuck].name} waits for itself: the edges are cyclic")
    return order


def _passed(
    problem: Problem, after: Waits, order: list[int], begin: Sequence[int], thorough: bool
) -> list[int]:
    """Earliest starts. Thorough: of all that must come before a work, what runs on the work's own
    lane runs one after the other, so their heads and durations delay it together."""
    works = problem.works
    passed = list(begin)
    before = [0] * len(works)  # bit sets
    on_lane = [sum(1 << w for w in on) for on in problem.on_lane] if thorough else []
    for w in order:
        if thorough:
            for lane in works[w].lanes:
                passed[w] = max(passed[w], _one_by_one(problem, before[w] & on_lane[lane], passed))
        end = passed[w] + works[w].duration
        for b, latency in after[w]:
            passed[b] = max(passed[b], end + latency)
            if thorough:
                before[b] |= before[w] | 1 << w
    return passed


def _one_by_one(problem: Problem, bits: int, passed: list[int]) -> int:
    """When the works of a bit set, none before its head, can all have run one after the other."""
    numbers = []
    while bits:
        lowest = bits & -bits
        numbers.append(lowest.bit_length() - 1)
        bits ^= lowest
    end = 0
    for w in sorted(numbers, key=passed.__getitem__):
        end = max(end, passed[w]) + problem.works[w].duration
    return end


def _span_bound(problem: Problem, links: Links) -> int:
    """Of each compute lane: heads from its first start, tails to its last end."""
    back = reverse(links.after)
    order = _topological(problem, links.after)
    found = [0]
    for lane, on in zip(problem.lanes, problem.on_lane):
        if on and lane.kind == "compute":
            begin = [-(1 << 60)] * len(order)  # what the lane does not come before is free
            for w in on:
                begin[w] = 0
            heads = _passed(problem, links.after, order, begin, False)
            tails = _passed(problem, back, order[::-1], begin, False)
            found.append(_one_lane(problem, on, heads, tails))
    return max(found)


def _one_lane(
    problem: Problem, on: tuple[int, ...], heads: Sequence[int], tails: Sequence[int]
) -> int:
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

"""Horizon: until when some schedule of least span ends, which may be later than others end.

A schedule that works for `span` ticks on each compute lane may stretch over more: lanes may work at
other times, as far as what they wait for from each other lets them.
"""

from __future__ import annotations

from collections.abc import Sequence

from superscaler.schedule.bound import Limits
from superscaler.schedule.problem import Problem

Arc = tuple[int, int, int]  # u, v, ticks: v is at u + ticks or later
UNTIED = -(1 << 60)  # no path


def span_horizon(problem: Problem, limits: Limits, span: int) -> int:
    """Ticks within which some schedule of least span runs, where one of `span` is known.

    The smaller of two bounds; schedules may be moved in time, so let them begin at 0.

    1. Let no work run between ticks a and b, further apart than the longest latency l: all that
       starts at b or later can start b - a - l earlier. Edges and links across the gap have their
       latency still; the order of starts and ends, and so memory, stays; no span grows. So there
       is a best schedule without such gaps: it ends by the durations and l between any two works.
    2. `_extent`: how far apart works can be when no lane takes longer than `span`.
    """
    latency = max((ticks for waits in limits.links.after for _, ticks in waits), default=0)
    no_gaps = sum(w.duration for w in problem.works) + latency * max(0, len(problem.works) - 1)
    extent = _extent(problem, limits, span)
    return no_gaps if extent is None else min(no_gaps, extent)


def _extent(problem: Problem, limits: Limits, span: int) -> int | None:
    """From the first start to the last end at most; None where works are not tied to each other.

    Links, and last end - first start <= span for each lane, bound differences of times. So longest
    paths from and to one point in time, the first start of a lane, are how much earlier and later
    all others are at most. No circle is positive, since some schedule obeys all of these.
    """
    lanes = [
        on for lane, on in zip(problem.lanes, problem.on_lane) if on and lane.kind == "compute"
    ]
    if not lanes:
        return None
    works = problem.works
    rest = [max(works[w].duration + limits.tails[w] for w in on) for on in lanes]
    origin = len(works) + 2 * rest.index(max(rest))  # what comes first ties most works to it
    arcs, size = _arcs(problem, limits, lanes, span), len(works) + 2 * len(lanes)
    begins = _longest(size, arcs, origin)[: len(works)]
    to_origin = _longest(size, [(v, u, ticks) for u, v, ticks in reversed(arcs)], origin)
    if UNTIED in begins or UNTIED in to_origin:
        return None
    return max(w.duration - before for w, before in zip(works, to_origin)) - min(begins)


def _arcs(
    problem: Problem, limits: Limits, lanes: Sequence[tuple[int, ...]], span: int
) -> list[Arc]:
    """Between works, and between these and the first start and the last end of each lane."""
    works = problem.works
    arcs = [
        (a, b, works[a].duration + latency)
        for a, waits in enumerate(limits.links.after)
        for b, latency in waits
    ]
    for number, on in enumerate(lanes):
        first = len(works) + 2 * number
        arcs += [(first, w, 0) for w in on]
        arcs += [(w, first + 1, works[w].duration) for w in on]
        arcs.append((first + 1, first, -span))
    return arcs


def _longest(size: int, arcs: Sequence[Arc], origin: int) -> list[int]:
    """The longest path from `origin` to each point, UNTIED where there is none (Bellman, Ford)."""
    found = [UNTIED] * size
    found[origin] = 0
    for _ in range(size):
        before = list(found)
        for u, v, ticks in arcs:
            if found[u] > UNTIED:
                found[v] = max(found[v], found[u] + ticks)
        if found == before:
            break
    return found

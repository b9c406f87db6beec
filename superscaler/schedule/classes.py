"""Classes: microbatches that are alike, and so need be tried in one order only."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

from superscaler.schedule.problem import Problem

Signature = tuple[object, ...]


def fifo_pairs(problem: Problem) -> list[tuple[int, int]]:
    """Pairs of works of which the first may be asked to come first, without loss.

    Microbatches with the same works, edges, latencies and holds are interchangeable: sorting the
    start times within each family keeps every precedence, lane and memory constraint (each is of
    the form a_i <= b_i or counts what is begun less what is ended). Microbatches between which
    the problem has edges are not sorted.
    """
    members = _members(problem)
    tied = _tied(problem)
    alike: dict[Signature, list[int]] = defaultdict(list)
    signatures = _signatures(problem, members)
    for m in sorted(members):
        if m not in tied:
            alike[signatures[m]].append(m)
    pairs = []
    for group in alike.values():
        for a, b in pairwise(group):
            pairs += list(zip(members[a], members[b]))
    return pairs


def _members(problem: Problem) -> dict[int, list[int]]:
    """Microbatch -> its works, in one order for all that are alike."""
    found: dict[int, list[int]] = defaultdict(list)
    for number, work in enumerate(problem.works):
        if work.microbatch >= 0:
            found[work.microbatch].append(number)
    return found


def _tied(problem: Problem) -> set[int]:
    tied = set()
    for edge in problem.edges:
        a, b = (problem.works[w].microbatch for w in (edge.before, edge.after))
        if a >= 0 and b >= 0 and a != b:
            tied |= {a, b}
    for hold in problem.holds:
        ends = [{problem.works[w].microbatch for w in side} for side in (hold.first, hold.last)]
        if len(ends[0] | ends[1]) > 1 and not all(len(e) == 1 or e >= _all(problem) for e in ends):
            tied |= ends[0] | ends[1]
    return tied


def _all(problem: Problem) -> set[int]:
    return {w.microbatch for w in problem.works if w.microbatch >= 0}


def _signatures(problem: Problem, members: dict[int, list[int]]) -> dict[int, Signature]:
    """What distinguishes microbatches: their works by position, and how these are connected."""
    position = {w: i for works in members.values() for i, w in enumerate(works)}
    parts: dict[int, list[tuple[object, ...]]] = {m: [] for m in members}
    for m, works in members.items():
        for w in works:
            work = problem.works[w]
            parts[m].append(("work", str(work.family), work.lanes, work.duration))

    def spot(w: int, m: int) -> tuple[str, int]:
        inside = problem.works[w].microbatch == m
        return ("in", position[w]) if inside else ("out", w)

    for edge in problem.edges:
        ends = {problem.works[w].microbatch for w in (edge.before, edge.after)} - {-1}
        for m in ends:
            parts[m].append(("edge", spot(edge.before, m), spot(edge.after, m), edge.latency))
    for hold in problem.holds:
        for m in {problem.works[w].microbatch for w in (*hold.first, *hold.last)} - {-1}:
            first = tuple(
                sorted(spot(w, m) for w in hold.first if problem.works[w].microbatch == m)
            )
            last = tuple(sorted(spot(w, m) for w in hold.last if problem.works[w].microbatch == m))
            parts[m].append(("hold", hold.memory, hold.amount, first, last))
    return {m: tuple(sorted(map(repr, listed))) for m, listed in parts.items()}

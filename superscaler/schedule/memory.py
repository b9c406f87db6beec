"""Memory: the most bytes of each memory that are held at any one time of a schedule."""

from __future__ import annotations

from collections.abc import Sequence

from superscaler.schedule.problem import Hold, Problem


def peaks(problem: Problem, start: Sequence[int]) -> tuple[int, ...]:
    """Per memory: its resident bytes and the most that is held beside them at any one time.

    What ends at a tick is free for what starts at that tick.
    """
    changes: list[list[tuple[int, int]]] = [[] for _ in problem.memories]
    for hold in problem.holds:
        since, until = lifetime(problem, start, hold)
        if since < until:
            changes[hold.memory] += [(since, hold.amount), (until, -hold.amount)]
    return tuple(m.resident + _peak(c) for m, c in zip(problem.memories, changes))


def lifetime(problem: Problem, start: Sequence[int], hold: Hold) -> tuple[int, int]:
    """The ticks from which and until which a hold takes memory."""
    since = min(start[w] for w in hold.first)
    return since, max(start[w] + problem.works[w].duration for w in hold.last)


def excess(problem: Problem, start: Sequence[int]) -> int:
    """Bytes by which the fullest memory is over its capacity; 0 when everything fits."""
    over = (p - m.capacity for p, m in zip(peaks(problem, start), problem.memories))
    return max(0, *over, 0)


def _peak(changes: list[tuple[int, int]]) -> int:
    most = held = 0
    for _, amount in sorted(changes):  # at one tick what ends (negative) comes first
        held += amount
        most = max(most, held)
    return most


def fits(problem: Problem, start: Sequence[int]) -> bool:
    """Whether no memory is over its capacity at any time."""
    return excess(problem, start) == 0

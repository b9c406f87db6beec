"""Repeat: a long run's schedule from a short one's, by repeating its steady state (repetend)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from superscaler.schedule.problem import Edge, Hold, Problem


def shortened(problem: Problem, microbatches: int) -> tuple[Problem, tuple[int, ...]]:
    """The same step with its first microbatches only, and the number that each of its works has in
    the whole step.

    Only for steps whose microbatches are alike and not tied to each other.
    """
    kept = tuple(n for n, w in enumerate(problem.works) if w.microbatch < microbatches)
    number = {old: new for new, old in enumerate(kept)}
    edges = tuple(
        Edge(number[e.before], number[e.after], e.latency, e.kind)
        for e in problem.edges
        if e.before in number and e.after in number
    )
    holds = tuple(h for hold in problem.holds if (h := _shortened(hold, number)) is not None)
    works = tuple(problem.works[n] for n in kept)
    return replace(problem, works=works, edges=edges, holds=holds), kept


def _shortened(hold: Hold, number: dict[int, int]) -> Hold | None:
    first = tuple(number[w] for w in hold.first if w in number)
    last = tuple(number[w] for w in hold.last if w in number)
    return replace(hold, first=first, last=last) if first and last else None


def repeated(problem: Problem, short: Sequence[int], kept: Sequence[int]) -> Iterator[list[int]]:
    """Times by which to sort the works of the whole step: those of `short`, with some microbatches
    in the middle repeated, for every stretch of microbatches that may be the steady state."""
    spots = _spots(problem)
    at = {spots[old]: start for old, start in zip(kept, short)}
    whole, some = (1 + max(spots[n][0] for n in numbers) for numbers in (range(len(spots)), kept))
    size = 1 + max(position for _, position in spots)
    for period in range(1, some // 2 + 1):
        for cut in range(max(period, some // 4), 3 * some // 4 + 1):
            ticks = max(at[cut, i] - at[cut - period, i] for i in range(size) if (cut, i) in at)
            yield [
                _time(at, spot, range(cut, cut + whole - some), period, ticks) for spot in spots
            ]


def _spots(problem: Problem) -> list[tuple[int, int]]:
    """Per work: its microbatch and its position in it."""
    counts: dict[int, int] = {}
    spots = []
    for work in problem.works:
        counts[work.microbatch] = counts.get(work.microbatch, -1) + 1
        spots.append((work.microbatch, counts[work.microbatch]))
    return spots


def _time(
    at: dict[tuple[int, int], int], spot: tuple[int, int], added: range, period: int, ticks: int
) -> int:
    """`added` microbatches are those `period` before them, once more; later ones are put off."""
    m, position = spot
    if 0 <= m < added.start:
        return at[spot]
    if m in added:
        rounds = (m - added.start) // period + 1
        return at[m - rounds * period, position] + rounds * ticks
    before = m if m < 0 else m - len(added)
    return at[before, position] + len(added) * ticks // period

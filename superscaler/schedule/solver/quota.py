"""Quota: memory that several stages share, divided among them, so that links alone decide it.

Every schedule within the quotas fits the memory; the converse does not hold, so what is found
under quotas is a candidate, never a bound.
"""

from __future__ import annotations

from dataclasses import replace

from superscaler.schedule.bound import Limits, limits_along
from superscaler.schedule.links import Chain, chains_of, room
from superscaler.schedule.problem import Problem


def with_quotas(problem: Problem, limits: Limits, tilt: float) -> Limits | None:
    """Limits under which a chain of holds has a share of its memory that grows with the time a
    hold lasts at least, to the power `tilt`; None where a memory has no room for one of each."""
    after = [list(waits) for waits in limits.links.after]
    for memory in limits.links.loose:
        chains = chains_of(problem, memory, limits.links.sorted_pairs)
        counts = _counts(problem, limits, chains, room(problem, memory), tilt)
        if counts is None:
            return None
        for chain, count in zip(chains, counts):
            for early, late in zip(chain, chain[count:]):
                for a in early.last:
                    after[a] += [(b, 0) for b in late.first]
    return limits_along(problem, replace(limits.links, after=after, loose=()))


def _counts(
    problem: Problem, limits: Limits, chains: list[Chain], space: int, tilt: float
) -> list[int] | None:
    """How many holds of each chain may be alive at once: dealt out one by one, each to the chain
    with the fewest for its need."""
    needs = [max(_lasts(problem, limits, c), 1) ** tilt for c in chains]
    counts = [1] * len(chains)
    left = space - sum(c[0].amount for c in chains)
    if left < 0:
        return None
    while True:
        open_ = [i for i, c in enumerate(chains) if counts[i] < len(c) and c[0].amount <= left]
        if not open_:
            return counts
        chosen = max(open_, key=lambda i: (needs[i] / counts[i], -i))
        counts[chosen] += 1
        left -= chains[chosen][0].amount


def _lasts(problem: Problem, limits: Limits, chain: Chain) -> int:
    """Ticks from the first begin of a chain's first hold to its end, were nothing in its way."""
    hold = chain[0]
    begin = min(limits.heads[w] for w in hold.first)
    return max(limits.heads[w] + problem.works[w].duration for w in hold.last) - begin

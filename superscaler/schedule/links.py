"""Links: what must end before what starts: by data, by likeness, and by memory."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace

from superscaler.schedule.classes import fifo_pairs
from superscaler.schedule.problem import Hold, Problem

Waits = list[list[tuple[int, int]]]  # per work: (work, ticks between)
Chain = tuple[Hold, ...]


@dataclass(frozen=True, slots=True)
class Links:
    """`after[a]` has (b, latency) where b starts `latency` or more after a ends, in some best
    schedule at least.

    `sorted_pairs`: works that differ in their microbatch only, in turn. `by_memory`: pairs of
    which the first must end before the second starts, or memory would run over. `loose`: the
    memories that these pairs do not decide alone.
    """

    after: Waits
    sorted_pairs: tuple[tuple[int, int], ...]
    by_memory: tuple[tuple[int, int], ...]
    loose: tuple[int, ...]


def links_of(problem: Problem) -> Links:
    """Every link that costs no schedule its optimality."""
    after: Waits = [[] for _ in problem.works]
    for edge in problem.edges:
        after[edge.before].append((edge.after, edge.latency))
    lanes = [set(w.lanes) for w in problem.works]
    pairs = tuple(fifo_pairs(problem))
    for a, b in pairs:
        if lanes[a] & lanes[b]:
            after[a].append((b, 0))
    by_memory, loose = _memory_links(problem, dict(pairs))
    for a, b in by_memory:
        after[a].append((b, 0))
    return Links(after, pairs, tuple(by_memory), tuple(loose))


def reverse(after: Waits) -> Waits:
    """The same links seen from the end of time."""
    found: Waits = [[] for _ in after]
    for a, waits in enumerate(after):
        for b, latency in waits:
            found[b].append((a, latency))
    return found


def tight_memories(problem: Problem) -> dict[int, list[Hold]]:
    """The holds of each memory that cannot take all of them at once."""
    found: dict[int, list[Hold]] = defaultdict(list)
    for hold in problem.holds:
        found[hold.memory].append(hold)
    return {
        n: holds
        for n, holds in sorted(found.items())
        if sum(h.amount for h in holds) > room(problem, n)
    }


def room(problem: Problem, memory: int) -> int:
    """Bytes of a memory that holds may take."""
    return problem.memories[memory].capacity - problem.memories[memory].resident


def chains_of(
    problem: Problem, memory: int, sorted_pairs: tuple[tuple[int, int], ...]
) -> list[Chain]:
    """The holds of a memory, those that differ in their microbatch only in one chain, in turn."""
    holds = [h for h in problem.holds if h.memory == memory]
    return _chains(_merged(holds), dict(sorted_pairs))


def _memory_links(
    problem: Problem, follows: dict[int, int]
) -> tuple[list[tuple[int, int]], list[int]]:
    """Where L holds of a chain fit, hold m ends before hold m + L begins: chains begin and end in
    turn. Alone in its memory, a chain is decided by this."""
    found: dict[tuple[int, int], None] = {}
    loose = []
    for memory, holds in tight_memories(problem).items():
        chains = _chains(_merged(holds), follows)
        if len(chains) > 1:
            loose.append(memory)
        for chain in (*chains, *_nested(problem, chains)):
            fit = room(problem, memory) // chain[0].amount
            if fit < 1:
                continue  # no schedule at all: `solve` says so
            for early, late in zip(chain, chain[fit:]):
                found.update({(v, w): None for v in early.last for w in late.first})
    return list(found), loose


def _merged(holds: list[Hold]) -> list[Hold]:
    """Holds that begin and end together, as one."""
    amounts: dict[tuple[tuple[int, ...], tuple[int, ...]], int] = defaultdict(int)
    for hold in holds:
        amounts[hold.first, hold.last] += hold.amount
    memory = holds[0].memory
    return [Hold(memory, a, first, last) for (first, last), a in amounts.items() if a]


def _chains(holds: list[Hold], follows: dict[int, int]) -> list[Chain]:
    """Holds of one amount whose works are in turn, in that order."""

    def key(hold: Hold) -> tuple[tuple[int, ...], tuple[int, ...], int]:
        return hold.first, hold.last, hold.amount

    def next_key(hold: Hold) -> tuple[tuple[int, ...], tuple[int, ...], int]:
        sides = (tuple(follows.get(w, -1) for w in side) for side in (hold.first, hold.last))
        return *sides, hold.amount  # type: ignore[return-value]

    by_key = {key(h): h for h in holds}
    followers = {next_key(h) for h in holds}
    chains = []
    for hold in holds:
        if key(hold) in followers:
            continue
        chain = [hold]
        while (following := by_key.get(next_key(chain[-1]))) is not None:
            chain.append(following)
        chains.append(tuple(chain))
    return chains


def _nested(problem: Problem, chains: list[Chain]) -> list[Chain]:
    """Two chains that begin together, of which one outlives the other: until the first ends both
    are held."""
    found = []
    for chain in chains:
        begun = [c for c in chains if c[0].first == chain[0].first and len(c) == len(chain)]
        outlive = [c for c in begun if c is not chain and _outlives(problem, c[0], chain[0])]
        if outlive:
            amount = chain[0].amount + sum(c[0].amount for c in outlive)
            found.append(tuple(replace(h, amount=amount) for h in chain))
    return found


def _outlives(problem: Problem, long: Hold, short: Hold) -> bool:
    """Whether what ends a hold comes after all that ends another."""
    return any(set(short.last) <= {edge.before for edge in problem.incoming[w]} for w in long.last)

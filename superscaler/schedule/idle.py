"""Idle: how long any schedule takes at least because memory is full."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from superscaler.schedule.links import room, tight_memories
from superscaler.schedule.problem import Hold, Problem

MOMENTS = 48  # ends of holds, from the first on, until which a lane's work is bounded


def memory_bounds(problem: Problem, heads: Sequence[int], tails: Sequence[int]) -> Iterator[int]:
    """Ticks that no schedule can beat, by what is true of each memory that is too small for all.

    `heads` and `tails`: ticks before each work and after it.
    """
    for memory, holds in tight_memories(problem).items():
        yield _area_bound(problem, memory, holds, heads, tails)
        for lane in sorted(
            {lane for h in holds for w in h.first for lane in problem.works[w].lanes}
        ):
            yield _lane_bound(problem, lane, room(problem, memory), holds, heads, tails)


def _area_bound(
    problem: Problem, memory: int, holds: list[Hold], heads: Sequence[int], tails: Sequence[int]
) -> int:
    """Bytes times the ticks that they are held for at least, over the bytes that there are."""
    space = room(problem, memory)
    if space <= 0:
        return 0
    area = sum(h.amount * _least_life(problem, h) for h in holds)
    before = min(heads[w] for h in holds for w in h.first)
    after = min(tails[w] for h in holds for w in h.last)
    return before - (-area // space) + after


def _least_life(problem: Problem, hold: Hold) -> int:
    """Ticks between the start of the first work of a hold and the end of its last, at least: the
    longest path inside of its microbatch."""
    best = max(problem.works[w].duration for w in (*hold.first, *hold.last))
    for first in hold.first:
        microbatch = problem.works[first].microbatch
        reached = {first: problem.works[first].duration}  # work -> ticks until its end
        for w in _in_order(problem, first, microbatch):
            for edge in problem.outgoing[w]:
                after = problem.works[edge.after]
                if after.microbatch == microbatch:
                    end = reached[w] + edge.latency + after.duration
                    reached[edge.after] = max(reached.get(edge.after, 0), end)
        best = max([best, *(reached.get(w, 0) for w in hold.last)])
    return best


def _in_order(problem: Problem, first: int, microbatch: int) -> list[int]:
    """Works of a microbatch that come after a work, each after all that it waits for of these."""
    order: list[int] = []
    seen = {first}
    stack = [(first, iter(problem.outgoing[first]))]
    while stack:
        w, edges = stack[-1]
        following = next((e.after for e in edges if e.after not in seen
                          and problem.works[e.after].microbatch == microbatch), None)  # fmt: skip
        if following is None:
            order.append(w)
            stack.pop()
        else:
            seen.add(following)
            stack.append((following, iter(problem.outgoing[following])))
    return order[::-1]


@dataclass(frozen=True, slots=True)
class _Side:
    """A lane seen from one end of time: what takes memory when it starts, what gives it back when.

    `taking`: (head, duration, bytes) of works that begin holds; `others`: (head, duration) of the
    rest; `given`: (tick, bytes), the earliest that a hold can end.
    """

    taking: list[tuple[int, int, int]]
    others: list[tuple[int, int]]
    given: list[tuple[int, int]]

    def idle(self, space: int) -> tuple[int, int]:
        """(a tick, the most that the lane can have worked until then): where the difference is
        largest."""
        best = (0, 0)
        for tick in sorted({t for t, _ in self.given})[:MOMENTS]:
            worked = self._worked(tick, space)
            if tick - worked > best[0] - best[1]:
                best = (tick, worked)
        return best

    def _worked(self, tick: int, space: int) -> int:
        """Until a tick: works that take memory, as far as it lasts, and all others."""
        left = space + sum(amount for t, amount in self.given if t < tick)
        shares = [(min(d, tick - head), amount) for head, d, amount in self.taking if head < tick]
        worked = 0
        for share, amount in sorted(shares, key=lambda item: (-item[0] / item[1], item)):
            worked += share if amount <= left else -(-share * left // amount)
            left = max(0, left - amount)
        begun = [head for head, _ in self.others if head < tick]
        rest = sum(min(d, tick - head) for head, d in self.others if head < tick)
        return min(tick, worked + min(rest, tick - min(begun, default=tick)))


def _lane_bound(
    problem: Problem,
    lane: int,
    space: int,
    holds: list[Hold],
    heads: Sequence[int],
    tails: Sequence[int],
) -> int:
    """A lane's works, and the time before and after them in which a full memory keeps it idle.

    Until a tick t holds take no more than there is and what was given back by then; so the lane
    works U(t) at most, and total - U(t) is left for after t. The same is true backwards in time.
    When U + U' is less than all works, the two times do not meet.
    """
    on = problem.on_lane[lane]
    works = problem.works
    total = sum(works[w].duration for w in on)
    ends = [(h.first, h.last, h.amount) for h in holds]
    early = _side(problem, on, ends, heads).idle(space)
    late = _side(problem, on, [(last, first, a) for first, last, a in ends], tails).idle(space)
    found = [0]
    if early[1] < total:
        found.append(early[0] + total - early[1] + min(tails[w] for w in on))
    if late[1] < total:
        found.append(late[0] + total - late[1] + min(heads[w] for w in on))
    if early[1] + late[1] < total:
        found.append(early[0] + late[0] + total - early[1] - late[1])
    return max(found)


def _side(
    problem: Problem,
    on: tuple[int, ...],
    ends: list[tuple[tuple[int, ...], tuple[int, ...], int]],
    heads: Sequence[int],
) -> _Side:
    taken: dict[int, int] = defaultdict(int)
    given = []
    for first, last, amount in ends:
        if len(first) == 1:
            taken[first[0]] += amount
        given.append((max(heads[w] + problem.works[w].duration for w in last), amount))
    durations = {w: problem.works[w].duration for w in on}
    taking = [(heads[w], durations[w], taken[w]) for w in on if taken.get(w)]
    others = [(heads[w], durations[w]) for w in on if not taken.get(w)]
    return _Side(taking, others, given)

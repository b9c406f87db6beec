"""Repetend: what a long run repeats, where memory has no room for all microbatches.

Where K of the microbatches fit, every K of them are a round, and a round starts when what the last
one held is free again. With all rounds alike, each so many ticks after the one before it, a long
run is no larger a question than one round; then the first and the last microbatches are let free,
which need not wait as those in the middle do. What is found is a candidate, never a bound: rounds
that differ may be shorter.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from math import gcd

from superscaler.schedule.bound import Limits
from superscaler.schedule.problem import Problem
from superscaler.schedule.solver.between import Between, SecondsLeft
from superscaler.schedule.solver.decide import Ties

MOST_WORKS = 1200  # of a round: above it the question is no smaller than that of the whole
FINENESS = 384  # the period is found to this part of it
FOUND = 0.3  # the share of the time left that one period may take, until one is found
PROBE = 0.12  # and from then on
SLACK = 3 / 8  # of what is known and what a period takes at least: decided sooner than with more
ENDS = 3 / 2  # rounds that are free at each end
CLOSER = 192  # where ends are free, periods shorter by this part are tried, too: few rounds repeat
EACH = 0.6  # the share of the time left that a length with one period may take
LEAST = 1 / 1024  # of the best length: less is not asked for

Turns = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Round:
    """`turns`: for each work of the first microbatch, it and those of the others that are alike.
    `size`: microbatches of a round. `period`: ticks between rounds at least. `unit`: what divides
    the most common durations."""

    turns: Turns
    size: int
    period: int
    unit: int

    @property
    def count(self) -> int:
        """Rounds, with a last one that is not full."""
        return -(-len(self.turns[0]) // self.size)

    def ties(self, num_works: int, period: int, ends: int) -> Ties:
        """All rounds alike but those of `ends` microbatches at each end."""
        first, rounds = list(range(num_works)), [0] * num_works
        for turn in self.turns:
            for m, w in enumerate(turn[ends : len(turn) - ends]):
                first[w], rounds[w] = turn[ends + m % self.size], m // self.size
        return Ties(first, rounds, period)

    def even(self, ticks: float) -> int:
        """About so many ticks, as a multiple of the unit: then works meet without small gaps
        between them."""
        return round(ticks / self.unit) * self.unit


def round_of(problem: Problem, limits: Limits) -> Round | None:
    """The round of a problem; None where microbatches differ, where links do not decide all
    memories, or where there are no three rounds."""
    links = limits.links
    if links.loose or not links.by_memory:
        return None
    turns = _turns(problem, dict(links.sorted_pairs))
    if turns is None:
        return None
    number = {w: m for turn in turns for m, w in enumerate(turn)}
    held = [number[b] - number[a] for a, b in links.by_memory if a in number and b in number]
    size = min(held, default=0)
    if size < 1 or len(turns[0]) <= 2 * size or size * len(turns) > MOST_WORKS:
        return None
    return Round(turns, size, _least_period(problem, limits, turns, size), _unit(problem, turns))


def _least_period(problem: Problem, limits: Limits, turns: Turns, size: int) -> int:
    """What heads grow by from round to round in the end, and the work of the fullest lane."""
    heads = limits.heads
    busy: dict[int, int] = defaultdict(int)
    for turn in turns:
        for lane in problem.works[turn[0]].lanes:
            busy[lane] += size * problem.works[turn[0]].duration
    grown = (heads[t[-1 - k]] - heads[t[-1 - k - size]] for t in turns for k in range(size))
    return max(*busy.values(), *grown)


def _unit(problem: Problem, turns: Turns) -> int:
    durations = [problem.works[turn[0]].duration for turn in turns]
    common = [d for d, n in Counter(durations).items() if d and n >= len(durations) // 6]
    return gcd(*common) if common else 1


def _turns(problem: Problem, follows: dict[int, int]) -> Turns | None:
    """Per work of the first microbatch: it and those of the others that are alike, in turn; None
    unless all microbatches are."""
    followers = set(follows.values())
    turns = []
    for w, work in enumerate(problem.works):
        if work.microbatch >= 0 and w not in followers:
            turn = [w]
            while turn[-1] in follows:
                turn.append(follows[turn[-1]])
            turns.append(tuple(turn))
    return tuple(turns) if turns and len({len(turn) for turn in turns}) == 1 else None


def shorten_by_rounds(between: Between, found: Round, seconds_left: SecondsLeft) -> None:
    """Looks for shorter schedules in which rounds repeat: all at first, and then those in the
    middle."""
    period = _shortest_period(between, found, seconds_left)
    if period is not None:
        _free_ends(between, found, period, seconds_left)


def _shortest_period(between: Between, found: Round, seconds_left: SecondsLeft) -> int | None:
    """By bisection between a period that must be too short and one too long to help. A period that
    is not decided in its time counts as too short; after two such the one found is short enough.
    """
    known, bound, rounds = between.best.length, between.bound, found.count - 1
    low, high = found.period - 1, found.period + (known - bound) // rounds
    best, undecided = None, 0
    while high - low > max(1, found.period // FINENESS) and (best is None or undecided < 2):
        period = found.even((low + high) / 2)
        if not low < period < high:
            break
        least = bound + rounds * (period - found.period)
        horizon = least + int(SLACK * (known - least))
        ties = found.ties(len(between.problem.works), period, 0)
        answer = between.ask(horizon, seconds_left() * (PROBE if best else FOUND), ties)
        if answer:
            best = high = period
        else:
            low, undecided = period, undecided + (answer is None)
    return best


def _free_ends(between: Between, found: Round, period: int, seconds_left: SecondsLeft) -> None:
    """Asks for half of what is between, and for less where nothing is found."""
    microbatches = len(found.turns[0])
    ends = min(int(ENDS * found.size), (microbatches - found.size - 1) // 2)
    in_vain = dict.fromkeys((period, found.even(period - period / CLOSER)), 0)  # asked for
    part = 1 / 2
    while seconds_left() > 0:
        horizon = between.best.length - int(part * between.open)
        if between.best.length - horizon < max(1, LEAST * between.best.length):
            return
        part /= 2
        for each in [p for p, asked in in_vain.items() if asked < horizon]:
            ties = found.ties(len(between.problem.works), each, ends)
            if between.ask(horizon, seconds_left() * EACH, ties):
                part = 1 / 2
                break
            in_vain[each] = horizon

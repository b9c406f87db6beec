"""Repetend: what a long run repeats, where memory has no room for all microbatches.

Where K of the microbatches fit, every K of them are a round, and a round starts when what the last
one held is free again. All rounds alike, each so many ticks after the one before it, are a problem
of one round on a circle: small enough for CP-SAT, however many microbatches there are. What it
finds is a candidate, never a bound: rounds that differ may be shorter.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd

from ortools.sat.python import cp_model

from superscaler.schedule.bound import Limits
from superscaler.schedule.problem import Problem
from superscaler.schedule.solver.settings import Settings

MOST_WORKS = 1200  # of a round: above it the model is no smaller than what it stands for
COPIES = 2  # rounds that run at once: one has ended when the next but one begins
FINENESS = 128  # the period is found to this part of it, and then shortened with the round
PROBES = 5  # periods tried, if each takes all the time it may
PROBING = 0.6  # the share of the time that is for finding the period; the rest is for the round
SPACINGS = (0.0, 0.88, 0.92, 0.95)  # between microbatches, of what fills a period; 0: any

Rest = tuple[int, int, int, int]  # work before, work after, rounds between them, ticks between


@dataclass(frozen=True)
class Round:
    """`works`: for each work of the first round, it and those that take its place in later rounds.
    `waits`: links between them, by position, with the rounds that they go over. `begins`: the first
    work of each of the `size` microbatches. `period`: ticks between rounds at least.
    """

    works: tuple[tuple[int, ...], ...]
    waits: tuple[Rest, ...]
    begins: tuple[int, ...]
    size: int
    period: int
    count: int


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
    works = tuple(turn[k::size] for k in range(size) for turn in turns)
    first = min(range(len(turns)), key=lambda t: limits.heads[turns[t][0]])
    begins = tuple(k * len(turns) + first for k in range(size))
    least = _least_period(problem, limits, works)
    return Round(works, _waits_between(limits, works), begins, size, least, len(works[0]))


def _waits_between(limits: Limits, works: tuple[tuple[int, ...], ...]) -> tuple[Rest, ...]:
    """The links, each once for all rounds."""
    spot = {w: (n, r) for n, turn in enumerate(works) for r, w in enumerate(turn)}
    found = {
        (spot[a][0], spot[b][0], spot[b][1] - spot[a][1], latency)
        for a in spot
        for b, latency in limits.links.after[a]
        if b in spot
    }
    return tuple(sorted(found))


def _least_period(problem: Problem, limits: Limits, works: tuple[tuple[int, ...], ...]) -> int:
    """What heads grow by from round to round in the end, and the work of the fullest lane."""
    heads = limits.heads
    busy: dict[int, int] = defaultdict(int)
    for turn in works:
        for lane in problem.works[turn[0]].lanes:
            busy[lane] += problem.works[turn[0]].duration
    return max([*busy.values(), *(heads[t[-1]] - heads[t[-2]] for t in works if len(t) > 1)])


def _turns(problem: Problem, follows: dict[int, int]) -> list[tuple[int, ...]] | None:
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
    return turns if turns and len({len(turn) for turn in turns}) == 1 else None


def repeat(
    problem: Problem, limits: Limits, best: int, bound: int, settings: Settings
) -> list[int] | None:
    """Starts of a schedule of rounds that are alike, by the shortest period that is found within
    the time; works without a microbatch start at 0. None if there is no such round, or none is
    found.

    `best` and `bound` are the lengths of the best known schedule and of none: between them they
    say which periods can help.
    """
    found = round_of(problem, limits)
    if found is None or best <= bound:
        return None
    first = _shortest_period(problem, found, best - bound, settings)
    if first is None:
        return None
    rest = settings.within(settings.time_limit_s * (1 - PROBING))
    starts, period = _shortened(problem, limits, found, first, rest)
    start = [0] * len(problem.works)
    for turn, at in zip(found.works, starts):
        for number, w in enumerate(turn):
            start[w] = at + number * period
    return start


def _shortest_period(
    problem: Problem, found: Round, slack: int, settings: Settings
) -> tuple[list[int], int] | None:
    """(starts of the first round, period), by bisection between a period that must be too short
    and one too long to help. A period that is not decided in its time counts as too short."""
    low, high = found.period - 1, found.period + slack // (found.count - 1)
    limit = settings.time_limit_s * PROBING / PROBES / len(SPACINGS)
    each = Settings(limit, 1, settings.seed)  # decided sooner by one worker than by two
    best: tuple[list[int], int] | None = None
    while high - low > max(1, found.period // FINENESS):
        period = _even(problem, found, (low + high) / 2)
        if not low < period < high:
            break
        starts = _first_round(problem, found, period, each)
        if starts is None:
            low = period
        else:
            best, high = (starts, period), period
    return best


def _first_round(
    problem: Problem, found: Round, period: int, settings: Settings
) -> list[int] | None:
    """A round that repeats with a period: first of microbatches that begin evenly, which decides
    most of it, then of any."""
    for share in SPACINGS:
        model = _model(problem, found, period, None)
        if share:
            apart = _even(problem, found, period * share / found.size)
            for k, begin in enumerate(found.begins):
                model.cp.add(model.start[begin] == k * apart)
        if (starts := _solved(model, settings)) is not None:
            return starts
    return None


def _even(problem: Problem, found: Round, ticks: float) -> int:
    """About so many ticks, as a multiple of what divides the most common durations: then works
    meet without small gaps between them."""
    durations = [problem.works[turn[0]].duration for turn in found.works]
    common = [d for d, n in Counter(durations).items() if d and n >= len(durations) // 6]
    unit = gcd(*common) if common else 1
    return round(ticks / unit) * unit


def _shortened(
    problem: Problem,
    limits: Limits,
    found: Round,
    first: tuple[list[int], int],
    settings: Settings,
) -> tuple[list[int], int]:
    """The round and its period, no longer than the first, by which all rounds end the soonest."""
    starts, longest = first
    model = _model(problem, found, longest, starts)
    period = model.period
    length = model.cp.new_int_var(0, (found.count + COPIES) * longest + max(limits.tails), "length")
    ends = []
    for n, turn in enumerate(found.works):
        after = problem.works[turn[0]].duration + limits.tails[turn[-1]]
        model.cp.add(length >= model.start[n] + (len(turn) - 1) * period + after)
        ends.append(starts[n] + (len(turn) - 1) * longest + after)
    model.cp.add_hint(length, max(ends))
    model.cp.minimize(length)
    better = _solved(model, settings)
    return first if better is None else (better[:-1], better[-1])


@dataclass
class _Model:
    """Starts of the first round's works, and the period: a number, or a variable."""

    cp: cp_model.CpModel
    start: list[cp_model.IntVar]
    period: int | cp_model.IntVar


def _model(problem: Problem, found: Round, longest: int, hint: Sequence[int] | None) -> _Model:
    """A round on a circle of a length; with a hint of that length, of any that is not longer."""
    cp = cp_model.CpModel()
    durations = [problem.works[turn[0]].duration for turn in found.works]
    start = [cp.new_int_var(0, COPIES * longest - d, f"{n}") for n, d in enumerate(durations)]
    period: int | cp_model.IntVar = longest
    if hint is not None:
        period = cp.new_int_var(found.period, longest, "period")
        cp.add_hint(period, longest)
        for variable, at in zip(start, hint):
            cp.add_hint(variable, at)
    model = _Model(cp, start, period)
    _waits(model, found, durations)
    _circles(model, problem, found, longest, hint)
    return model


def _waits(model: _Model, found: Round, durations: list[int]) -> None:
    """start_b + rounds * period >= start_a + duration_a + latency"""
    for a, b, rounds, latency in found.waits:
        later = model.start[b] + rounds * model.period
        model.cp.add(later >= model.start[a] + durations[a] + latency)


def _circles(
    model: _Model, problem: Problem, found: Round, longest: int, hint: Sequence[int] | None
) -> None:
    """No two works of a lane overlap, of one round or of two that follow each other."""
    lanes: dict[int, list[cp_model.IntervalVar]] = defaultdict(list)
    for n, turn in enumerate(found.works):
        work = problem.works[turn[0]]
        again: cp_model.LinearExprT = model.start[n] + model.period
        if hint is not None:
            copied = model.cp.new_int_var(0, (COPIES + 1) * longest, f"{n} again")
            model.cp.add(copied == again)
            model.cp.add_hint(copied, hint[n] + longest)
            again = copied
        if work.duration:
            for at in (model.start[n], again):
                run = model.cp.new_fixed_size_interval_var(at, work.duration, f"run {n}")
                for lane in work.lanes:
                    lanes[lane].append(run)
    for runs in lanes.values():
        model.cp.add_no_overlap(runs)


def _solved(model: _Model, settings: Settings) -> list[int] | None:
    """The starts, and then the period where it is a variable."""
    solver = settings.solver()
    if solver.solve(model.cp) not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return None
    starts = [solver.value(v) for v in model.start]
    return starts if isinstance(model.period, int) else [*starts, solver.value(model.period)]

"""Decide: is there any schedule that ends by some tick, of all or of those with rounds alike?

"Is any no longer than this?" is decided sooner than "which is the shortest?": every work gets a
latest start, and which works go first often follows from it. For problems whose memories links
decide (`Links.loose` is empty).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ortools.sat.python import cp_model

from superscaler.schedule.bound import Limits
from superscaler.schedule.problem import Problem
from superscaler.schedule.solver.crossings import Pair, add_crossings


@dataclass(frozen=True)
class Ties:
    """Works that start some rounds after another: work w starts `rounds[w] * period` ticks after
    work `first[w]`."""

    first: Sequence[int]
    rounds: Sequence[int]
    period: int


@dataclass
class Question:
    """The constraints, and a start per work."""

    cp: cp_model.CpModel
    start: Sequence[cp_model.LinearExprT]


def no_ties(problem: Problem) -> Ties:
    """Every work starts when it may."""
    return Ties(range(len(problem.works)), [0] * len(problem.works), 0)


def any_by(
    problem: Problem, limits: Limits, horizon: int, pairs: Sequence[Pair], ties: Ties
) -> Question | None:
    """Is there a schedule with these ties that ends by `horizon`? None: there is none, as some work
    would have to start before it can. `pairs` get a literal each, which of the two goes first."""
    earliest, latest = _between(problem, limits, horizon, ties)
    if any(earliest[w] > latest[w] for w in earliest):
        return None
    cp = cp_model.CpModel()
    free = {w: cp.new_int_var(earliest[w], latest[w], problem.works[w].name) for w in earliest}
    shift = [rounds * ties.period for rounds in ties.rounds]
    start = [free[w] + ticks if ticks else free[w] for w, ticks in zip(ties.first, shift)]
    question = Question(cp, start)
    _waits(question, problem, limits, ties)
    _lanes(question, problem)
    add_crossings(
        cp,
        problem,
        limits.links,
        pairs,
        alike=lambda pair: _alike(ties, *pair),
        starts=lambda pair: (start[pair[0]], start[pair[1]]),
    )
    return question


def _between(
    problem: Problem, limits: Limits, horizon: int, ties: Ties
) -> tuple[dict[int, int], dict[int, int]]:
    """head_w <= start_w <= horizon - duration_w - tail_w, for the works that others are tied to."""
    earliest: dict[int, int] = {}
    latest: dict[int, int] = {}
    for w, work in enumerate(problem.works):
        first, shift = ties.first[w], ties.rounds[w] * ties.period
        most = horizon - work.duration - limits.tails[w] - shift
        earliest[first] = max(earliest.get(first, 0), limits.heads[w] - shift)
        latest[first] = min(latest.get(first, most), most)
    return earliest, latest


def _alike(ties: Ties, a: int, b: int) -> tuple[int, int, int]:
    """The same for pairs whose starts are equally far apart."""
    return ties.first[a], ties.first[b], ties.rounds[b] - ties.rounds[a]


def _waits(question: Question, problem: Problem, limits: Limits, ties: Ties) -> None:
    """start_b >= start_a + duration_a + latency, for every link, and turns on different lanes"""
    known = set()
    for a, waits in enumerate(limits.links.after):
        for b, latency in waits:
            key = (*_alike(ties, a, b), latency)
            if key not in known:
                known.add(key)
                end = question.start[a] + problem.works[a].duration
                question.cp.add(question.start[b] >= end + latency)
    for a, b in limits.links.sorted_pairs:
        question.cp.add(question.start[a] <= question.start[b])


def _lanes(question: Question, problem: Problem) -> None:
    """No two works of a lane overlap."""
    runs = {
        w: question.cp.new_fixed_size_interval_var(question.start[w], work.duration, work.name)
        for w, work in enumerate(problem.works)
        if work.duration
    }
    for on in problem.on_lane:
        question.cp.add_no_overlap([runs[w] for w in on if w in runs])

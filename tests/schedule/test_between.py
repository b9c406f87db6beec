"""Questions about schedules: their answers, the ties they keep, and what threads make of them."""

import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ortools.sat.python import cp_model
from pipelines import pipeline, uniform

from superscaler.schedule.bound import bound_by, limits_of
from superscaler.schedule.check import check
from superscaler.schedule.problem import Problem, Schedule
from superscaler.schedule.replay import length
from superscaler.schedule.solver import crossings as crossings_module
from superscaler.schedule.solver import solve
from superscaler.schedule.solver.between import Between
from superscaler.schedule.solver.crossings import _implied, add_crossings, crossings
from superscaler.schedule.solver.decide import Question, any_by, no_ties
from superscaler.schedule.solver.model import build_model
from superscaler.schedule.solver.repetend import round_of
from superscaler.schedule.solver.settings import Settings
from superscaler.schedule.solver.solve import Progress
from superscaler.schedule.solver.swing import swing

LONG = 20.0


def between(problem: Problem, tell: Callable[[int, int], None] | None = None) -> Between:
    limits = limits_of(problem)
    listed = swing(problem, limits, "makespan", 0)
    assert listed is not None
    bound = bound_by(problem, limits)
    return Between(problem, limits, listed, bound, 0, tell or (lambda best, bound: None))


def shortest(problem: Problem) -> int:
    """By CP-SAT on the whole, without literals of ours."""
    known = between(problem).best
    model = build_model(problem, limits_of(problem), known.start, known.length, 0)
    solver = Settings(60.0, 2, 0).solver()
    assert solver.solve(model.cp) == cp_model.OPTIMAL
    return round(solver.objective_value)


def decided(problem: Problem, horizon: int, *, with_pairs: bool) -> bool:
    limits = limits_of(problem)
    pairs = crossings(problem, limits.links) if with_pairs else []
    question = any_by(problem, limits, horizon, pairs, no_ties(problem))
    if question is None:
        return False
    status = Settings(LONG, 1, 0).decider().solve(question.cp)
    assert status in (cp_model.OPTIMAL, cp_model.INFEASIBLE)
    return status == cp_model.OPTIMAL


def solved(question: Question | None) -> list[int] | None:
    if question is None:
        return None
    solver = Settings(LONG, 1, 0).decider()
    if solver.solve(question.cp) == cp_model.INFEASIBLE:
        return None
    return [solver.value(s) for s in question.start]


@st.composite
def pipelines(draw: st.DrawFn) -> Problem:
    ticks = st.tuples(*[st.integers(1, 5)] * 3)
    costs = draw(st.lists(ticks, min_size=2, max_size=4))
    return pipeline(
        costs,
        list(range(len(costs))),
        draw(st.integers(2, 5)),
        latency=draw(st.integers(0, 2)),
        capacity=draw(st.integers(1, 4)),
    )


@given(problem=pipelines())
@settings(max_examples=25, deadline=None)
def test_yes_from_the_shortest_on_and_no_before_it(problem: Problem) -> None:
    best = shortest(problem)
    for with_pairs in (False, True):
        assert decided(problem, best, with_pairs=with_pairs)
        assert not decided(problem, best - 1, with_pairs=with_pairs)


@given(problem=pipelines())
@settings(max_examples=15, deadline=None)
def test_questions_end_at_the_shortest(problem: Problem) -> None:
    asked = between(problem)
    asked.raise_bound(lambda: LONG)
    assert asked.bound == asked.best.length == shortest(problem)
    assert check(problem, asked.best.start) == []


def test_crossings_are_pairs_that_nothing_orders() -> None:
    """F of a later microbatch may go before B of an earlier one, unless memory has no room."""
    problem = uniform(2, 3, capacity=2)
    names = {
        (problem.works[a].name, problem.works[b].name)
        for a, b in crossings(problem, limits_of(problem).links)
    }
    assert names == {("B0.0", "F0.1"), ("B0.1", "F0.2"), ("B1.0", "F1.1"), ("B1.1", "F1.2")}


def test_two_stages_of_a_microbatch_on_one_lane_do_not_cross() -> None:
    problem = uniform(2, 3, per_device=2)
    pairs = crossings(problem, limits_of(problem).links)
    assert pairs
    assert all(problem.works[a].microbatch != problem.works[b].microbatch for a, b in pairs)


def test_a_crossing_says_which_goes_first() -> None:
    problem = uniform(3, 6, capacity=2)
    links, start = limits_of(problem).links, between(problem).best.start
    cp = cp_model.CpModel()
    fixed = [cp.new_constant(at) for at in start]
    literals = add_crossings(
        cp,
        problem,
        links,
        crossings(problem, links),
        alike=lambda pair: pair,
        starts=lambda pair: (fixed[pair[0]], fixed[pair[1]]),
    )
    solver = cp_model.CpSolver()
    assert solver.solve(cp) == cp_model.OPTIMAL
    found = {pair: bool(solver.value(literal)) for pair, literal in literals.items()}
    assert found == {(a, b): start[a] < start[b] for a, b in found}
    assert set(found.values()) == {True, False}


def test_who_goes_first_on_a_lane_goes_first_on_the_next() -> None:
    """B0.0 before F0.1 puts B1.0, which B0.0 waits for, before F1.1, which waits for F0.1."""
    problem = uniform(2, 3, capacity=2)
    links = limits_of(problem).links
    named = {
        tuple(tuple(problem.works[w].name for w in pair) for pair in implied)
        for implied in _implied(links, crossings(problem, links))
    }
    assert named == {
        (("B0.0", "F0.1"), ("B1.0", "F1.1")),
        (("B0.1", "F0.2"), ("B1.1", "F1.2")),
    }


def test_a_work_that_no_other_lane_waits_for_crosses_none() -> None:
    problem = uniform(3, 6, capacity=2)
    kinds = {
        problem.works[w].kind for pair in crossings(problem, limits_of(problem).links) for w in pair
    }
    assert sorted(str(kind) for kind in kinds) == ["B", "F"]


def test_too_many_crossings_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = uniform(3, 6, capacity=2)
    links = limits_of(problem).links
    number = len(crossings(problem, links))
    monkeypatch.setattr(crossings_module, "MOST", number - 1)
    assert crossings(problem, links) == []
    monkeypatch.setattr(crossings_module, "MOST", number)
    assert len(crossings(problem, links)) == number
    monkeypatch.setattr(crossings_module, "MOST_WORKS", len(problem.works) - 1)
    assert crossings(problem, links) == []


@pytest.mark.parametrize("ends", [0, 2, 3])
def test_ties_keep_rounds_apart(ends: int) -> None:
    problem = uniform(4, 14, capacity=2)
    limits = limits_of(problem)
    found = round_of(problem, limits)
    assert found is not None
    period = found.period + 30
    ties = found.ties(len(problem.works), period, ends)
    pairs, horizon = crossings(problem, limits.links), 2000
    lengths = []
    while (start := solved(any_by(problem, limits, horizon, pairs, ties))) is not None:
        assert check(problem, start) == []
        for turn in found.turns:
            for early, late in zip(turn[ends : 12 - ends], turn[ends + 2 : 14 - ends]):
                assert start[late] - start[early] == period
        lengths.append(length(problem, start))
        assert lengths[-1] <= horizon
        horizon = lengths[-1] - 1
    assert lengths


def test_too_short_for_one_work_is_no_question() -> None:
    problem = uniform(2, 4, capacity=2)
    limits = limits_of(problem)
    assert any_by(problem, limits, bound_by(problem, limits) // 2, [], no_ties(problem)) is None


def test_no_of_some_schedules_is_no_bound() -> None:
    problem = uniform(4, 14, capacity=2)
    found = round_of(problem, limits_of(problem))
    assert found is not None
    asked = between(problem)
    bound = asked.bound
    too_short = found.ties(len(problem.works), found.period // 2, 0)
    assert asked.ask(asked.best.length, LONG, too_short) is False
    assert asked.bound == bound


def test_a_no_raises_the_bound_by_one_more_than_what_was_asked() -> None:
    problem = uniform(3, 6, latency=1, capacity=2)
    best = shortest(problem)
    asked = between(problem)
    asked.best = replace(asked.best, length=2 * best)
    assert asked.ask(best - 1, LONG) is False
    assert asked.bound == best
    assert asked.ask(best, LONG) is True
    assert asked.best.length == best


def test_no_time_is_no_answer() -> None:
    asked = between(uniform(4, 14, capacity=2))
    assert asked.ask(asked.bound, 0.0) is None


def test_making_a_question_counts_as_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("superscaler.schedule.solver.between.run")
    asked = between(uniform(4, 14, capacity=2))
    assert asked.ask(asked.best.length - 1, 1e-6) is None
    with pytest.raises(NameError):
        asked.ask(asked.best.length - 1, LONG)


def test_only_valid_and_shorter_schedules_are_taken() -> None:
    problem = uniform(4, 14, capacity=2)
    asked = between(problem)
    best = asked.best
    assert not asked.found(best.start, "same")
    assert not asked.found([0] * len(best.start), "all at once")
    assert asked.best is best
    asked.best = replace(best, length=best.length + 1)
    assert asked.found(best.start, "shorter")
    assert (asked.best.made_by, asked.best.length) == ("shorter", best.length)


def test_an_answer_stops_what_it_settles() -> None:
    """Questions below the bound, and those of all schedules from the best length on."""
    asked = between(uniform(4, 14, capacity=2))
    stopped = []

    class Solver:
        def __init__(self, name: str) -> None:
            self.name = name

        def stop_search(self) -> None:
            stopped.append(self.name)

    best, bound = asked.best.length, asked.bound
    asked.asked = {  # type: ignore[assignment]
        Solver("below"): (bound - 1, False),
        Solver("open"): (bound, True),
        Solver("all, known"): (best, True),
        Solver("tied"): (best, False),
    }
    asked._settle()
    assert stopped == ["below", "all, known"]


def test_two_threads_ask_for_different_lengths() -> None:
    asked = between(uniform(8, 48, latency=1, capacity=4))
    bound, step = asked.bound, 30.0
    assert asked.open > 2 * step
    assert asked._next_horizon(step) == bound + 30
    asked.asked = {cp_model.CpSolver(): (bound + 30, True)}
    assert asked._next_horizon(step) == bound + 10
    assert asked._next_horizon(step / 2) == bound + 15
    asked.asked = {cp_model.CpSolver(): (bound + 30, False)}  # of some schedules alone
    assert asked._next_horizon(step) == bound + 30
    asked.bound = asked.best.length - 5
    assert asked._next_horizon(step) == asked.bound + 2


def test_the_other_thread_stops_at_the_end_and_its_errors_come_out() -> None:
    asked = between(uniform(8, 48, latency=1, capacity=4))
    with asked.raising(lambda: 1000.0):
        pass

    def fails() -> float:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), asked.raising(fails):
        pass


def test_the_other_thread_raises_the_bound() -> None:
    asked = between(uniform(8, 24, latency=1, capacity=4))
    bound, patience = asked.bound, time.perf_counter() + 60
    with asked.raising(lambda: patience - time.perf_counter()):
        while asked.bound == bound and time.perf_counter() < patience:
            time.sleep(0.01)
    assert bound < asked.bound <= asked.best.length


def test_one_thread_raises_the_bound_after_rounds() -> None:
    class Raised(Exception):
        pass

    def told(progress: Progress) -> None:
        if progress.bound > bound:
            raise Raised

    problem = uniform(4, 16, latency=1, capacity=2)
    bound = bound_by(problem, limits_of(problem))
    with pytest.raises(Raised):
        solve(problem, time_limit_s=60, workers=1, progress=told)


@pytest.mark.parametrize("workers", [1, 2])
def test_rounds_that_are_not_the_shortest_say_so(workers: int) -> None:
    found = solve(uniform(8, 48, latency=1, capacity=4), time_limit_s=0.5, workers=workers)
    assert found.bound < found.length
    assert found.status == "feasible"
    assert "the time limit ended the search" in found.notes[0]


@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_told_only_gets_better(workers: int) -> None:
    problem = uniform(8, 24, latency=1, capacity=4)
    told: list[Progress] = []
    found = solve(problem, time_limit_s=4, workers=workers, progress=told.append)
    assert check(problem, found.start) == []
    assert found.bound <= found.length
    assert [p.best for p in told] == sorted((p.best for p in told), reverse=True)
    assert [p.bound for p in told] == sorted(p.bound for p in told)


def test_hints_take_part() -> None:
    problem = uniform(8, 24, latency=1, capacity=4)
    good = solve(problem, time_limit_s=3)
    hinted = solve(problem, time_limit_s=0.1, hints=[good])
    assert hinted.length <= good.length
    assert isinstance(hinted, Schedule)

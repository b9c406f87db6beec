"""Rounds that repeat, and windows: they are schedules, and shorter where memory is short."""

from dataclasses import replace

import pytest
from ortools.sat.python import cp_model
from pipelines import pipeline, uniform

from superscaler.schedule.bound import bound_by, limits_of
from superscaler.schedule.check import check
from superscaler.schedule.portfolio import portfolio
from superscaler.schedule.problem import Edge, Kind, Problem, Schedule, Work
from superscaler.schedule.replay import length
from superscaler.schedule.solver import between as between_module
from superscaler.schedule.solver import solve
from superscaler.schedule.solver.between import Between
from superscaler.schedule.solver.repetend import round_of, shorten_by_rounds
from superscaler.schedule.solver.settings import Settings
from superscaler.schedule.solver.solve import Progress, _Search
from superscaler.schedule.solver.swing import swing
from superscaler.schedule.solver.windows import improve_by_windows

SETTINGS = Settings(8.0, 1, 0)


def swung(problem: Problem) -> list[int]:
    limits = limits_of(problem)
    found = swing(problem, limits, "makespan", bound_by(problem, limits))
    assert found is not None
    return list(found.start)


def between_of(problem: Problem) -> Between:
    """The list schedule and the bound of a problem."""
    limits = limits_of(problem)
    listed = swing(problem, limits, "makespan", 0)
    assert listed is not None
    bound = bound_by(problem, limits)
    return Between(problem, limits, listed, bound, 0, lambda best, bound: None)


def repeated(problem: Problem, asks: int = 1000, known: int | None = None) -> Schedule | None:
    """The shortest of rounds and the list schedule, by as many questions; None without rounds.
    `known`: take the list schedule to be as long as this."""
    found = round_of(problem, limits_of(problem))
    if found is None:
        return None
    between = between_of(problem)
    between.best = replace(between.best, length=known or between.best.length)
    left = iter([8.0] * asks)
    shorten_by_rounds(between, found, lambda: next(left, 0.0))
    return between.best


def test_a_round_is_what_fits_the_smallest_memory() -> None:
    problem = uniform(3, 8, capacity=2)
    small = (replace(problem.memories[1], capacity=3), *problem.memories[2:])
    found = round_of(replace(problem, memories=(problem.memories[0], *small)), limits_of(problem))
    assert found is not None
    assert (found.size, found.count, len(found.turns)) == (2, 4, 9)
    assert [problem.works[turn[0]].name for turn in found.turns[:3]] == ["F0.0", "B0.0", "W0.0"]
    assert [problem.works[w].name for w in found.turns[0][:3]] == ["F0.0", "F0.1", "F0.2"]


@pytest.mark.parametrize(
    "problem",
    [
        uniform(3, 8),  # memory for all
        uniform(3, 8, per_device=2, capacity=4),  # two stages share a memory
        uniform(3, 4, capacity=2),  # two rounds only
        pipeline([(1, 1, 1)], [0], 1, capacity=1),
    ],
)
def test_no_rounds(problem: Problem) -> None:
    assert round_of(problem, limits_of(problem)) is None
    assert repeated(problem) is None


def test_no_rounds_of_microbatches_that_differ() -> None:
    problem = uniform(2, 8, capacity=2)
    longer = replace(problem.works[0], duration=99)
    assert repeated(replace(problem, works=(longer, *problem.works[1:]))) is None


@pytest.mark.parametrize("microbatches", [8, 9, 11])
def test_rounds_that_repeat_are_a_schedule(microbatches: int) -> None:
    """Also where the last round is not full, and stages and memories differ."""
    costs = [(20, 22, 16), (25, 30, 11), (18, 22, 16)]
    problem = pipeline(costs, [0, 1, 2], microbatches, latency=1, capacity=2)
    found = repeated(problem, known=2 * length(problem, swung(problem)))
    assert found is not None
    assert found.made_by == "rounds"
    assert check(problem, found.start) == []


def test_shorter_than_list_schedules_where_memory_is_short() -> None:
    problem = uniform(8, 24, latency=1, capacity=4)
    found = repeated(problem)
    assert found is not None
    assert check(problem, found.start) == []
    assert found.length < length(problem, swung(problem))


def test_windows_shorten_and_never_lengthen() -> None:
    problem = uniform(8, 24, latency=1, capacity=4)
    between = between_of(problem)
    turns = iter([1.0, 1.0, 0.0])
    improve_by_windows(between, 4, SETTINGS, lambda: next(turns))
    found = between.best
    assert check(problem, found.start) == []
    assert found.made_by == "windows"
    assert found.length < length(problem, swung(problem))
    improve_by_windows(between, 4, SETTINGS, lambda: 0.0)
    assert between.best is found


def test_windows_end_when_the_best_is_the_shortest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two windows, and inside one: an answer of another thread stops its solver."""
    stopped = []

    def run(solver: cp_model.CpSolver, model: cp_model.CpModel) -> cp_model.CpSolverStatus:
        monkeypatch.setattr(solver, "stop_search", lambda: stopped.append(solver))
        between._no(between.best.length - 2, is_all=True)
        assert stopped == []
        between._no(between.best.length - 1, is_all=True)
        assert stopped == [solver]
        return cp_model.UNKNOWN

    monkeypatch.setattr(between_module, "run", run)
    between = between_of(uniform(8, 24, latency=1, capacity=4))
    improve_by_windows(between, 4, SETTINGS, lambda: 1.0)
    assert len(stopped) == 1
    assert between.open == 0


def test_an_update_after_all_microbatches() -> None:
    """A work without a microbatch is in no round."""
    problem = uniform(8, 24, latency=1, capacity=4)
    update = Work("U0", Kind.UPDATE, 0, -1, (0,), 5)
    last = [Edge(n, len(problem.works)) for n, w in enumerate(problem.works) if w.name[0] == "W"]
    changed = replace(problem, works=(*problem.works, update), edges=(*problem.edges, *last))
    found = repeated(changed)
    assert found is not None
    assert check(changed, found.start) == []
    assert found.length < length(changed, swung(changed))


def test_solve_asks_for_rounds_before_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without CP-SAT on the whole, what is shorter than known orders comes from them."""

    class Found(Exception):
        pass

    def told(progress: Progress) -> None:
        if progress.best < known:
            raise Found

    monkeypatch.setattr(_Search, "improve", lambda self, best: best)
    problem = uniform(8, 24, latency=1, capacity=4)
    known = min(length(problem, swung(problem)), portfolio(problem)[0].length)
    with pytest.raises(Found):
        solve(problem, time_limit_s=120, workers=1, progress=told)


def test_free_ends_are_shorter_than_rounds_alone() -> None:
    problem = uniform(8, 32, latency=1, capacity=4)
    alike, free = repeated(problem, asks=8), repeated(problem)
    assert alike is not None
    assert free is not None
    assert free.length < alike.length

"""Solve: the portfolio's best schedule, improved or proven by CP-SAT within a time limit."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ortools.sat.python import cp_model

from superscaler.errors import ScheduleError
from superscaler.schedule.bound import lower_bound
from superscaler.schedule.check import require
from superscaler.schedule.memory import fits
from superscaler.schedule.portfolio import portfolio
from superscaler.schedule.problem import Problem, Schedule
from superscaler.schedule.replay import lane_order, length, replay
from superscaler.schedule.solver.infeasible import memory_error
from superscaler.schedule.solver.model import Model, build_model

OBJECTIVES = ("makespan", "span")


@dataclass(frozen=True, slots=True)
class Progress:
    """What is known so far: the best length, what no schedule can beat, seconds since the start."""

    best: int
    bound: int
    seconds: float

    @property
    def gap(self) -> float:
        """How much of `best` might still be saved, relative to it."""
        return (self.best - self.bound) / self.best if self.best else 0.0


Report = Callable[[Progress], None]


def solve(
    problem: Problem,
    *,
    time_limit_s: float = 30.0,
    workers: int = 2,
    seed: int = 0,
    objective: str = "makespan",
    progress: Report | None = None,
    hints: Sequence[Schedule] | None = None,
) -> Schedule:
    """The best schedule found in `time_limit_s` seconds of search, never worse than the hints that
    fit the memory (default: the portfolio's).

    Raises ScheduleError when edges contradict each other, or when no schedule fits the memory: on
    which device, by how much, and what would help.
    """
    if objective not in OBJECTIVES:
        raise ScheduleError(
            f"objective {objective!r}: expected one of {', '.join(OBJECTIVES)}"
        )
    begun = time.perf_counter()
    bound = lower_bound(problem, objective)
    known = portfolio(problem, objective) if hints is None else list(hints)
    fitting = [s for s in known if fits(problem, s.start)]
    best = min(fitting, key=lambda s: s.length, default=None)
    if best is None:
        best = _any_that_fits(problem, known, time_limit_s, workers, seed, objective)
    if best.length > bound:
        left = time_limit_s - (time.perf_counter() - begun)
        clock = _Clock(begun, progress)
        best = _improve(problem, best, bound, max(left, 0.1), workers, seed, objective, clock)
    status = "optimal" if best.length <= bound else best.status
    seconds = time.perf_counter() - begun
    best = replace(best, bound=max(bound, best.bound), status=status, seconds=seconds)
    if status == "optimal":
        best = replace(best, bound=best.length, notes=())
    require(problem, best.start)
    return best


class _Clock(cp_model.CpSolverSolutionCallback):
    """Reports every better solution."""

    def __init__(self, begun: float, report: Report | None) -> None:
        super().__init__()
        self.begun, self.report = begun, report

    def on_solution_callback(self) -> None:
        if self.report is not None:
            best, bound = round(self.objective_value), round(self.best_objective_bound)
            self.report(Progress(best, bound, time.perf_counter() - self.begun))


def _improve(
    problem: Problem,
    best: Schedule,
    bound: int,
    time_limit_s: float,
    workers: int,
    seed: int,
    objective: str,
    clock: _Clock,
) -> Schedule:
    model = build_model(problem, best.start, best.length, bound, objective)
    solver = _solver(time_limit_s, workers, seed)
    status = solver.solve(model.cp, clock)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        note = f"no better order was found in {time_limit_s:.0f} s; this is the best known one"
        return replace(best, status="feasible", bound=bound, notes=(note,))
    proven = max(bound, round(solver.best_objective_bound))
    start = _earliest(problem, [solver.value(v) for v in model.start], objective)
    size = length(problem, start, objective)
    made_by = "cp-sat" if size < best.length else best.made_by
    if size >= best.length:
        start, size = best.start, best.length
    if status == cp_model.OPTIMAL:
        return Schedule(start, size, size, "optimal", made_by)
    note = f"the time limit ended the search; the best order may be {size - proven} ticks longer"
    note += " than the shortest"
    return Schedule(start, size, proven, "feasible", made_by, 0.0, (note,))


def _solver(time_limit_s: float, workers: int, seed: int) -> cp_model.CpSolver:
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = time_limit_s
    solver.parameters.num_workers = workers
    solver.parameters.random_seed = seed
    return solver


def _earliest(problem: Problem, start: Sequence[int], objective: str) -> tuple[int, ...]:
    """The same order on every lane with nothing later than it has to be, if it still fits."""
    if objective != "makespan":
        return tuple(start)
    early = replay(problem, lane_order(problem, start))
    return early if fits(problem, early) else tuple(start)


def _any_that_fits(
    problem: Problem,
    known: Sequence[Schedule],
    time_limit_s: float,
    workers: int,
    seed: int,
    objective: str,
) -> Schedule:
    """A first schedule within the memory, when none of the known ones is."""
    works = [w.duration for w in problem.works]
    latency = max((e.latency for e in problem.edges), default=0)
    horizon = sum(works) + latency * len(works)
    longest = max((s.length for s in known), default=horizon)
    for size in dict.fromkeys((2 * longest, horizon)):
        model: Model = build_model(problem, [0] * len(works), size, 0, "makespan")
        model.cp.clear_hints()
        solver = _solver(time_limit_s / 2, workers, seed)
        status = solver.solve(model.cp)
        if status in (cp_model.OPTIMAL, cp_model.FEASIBLE):
            start = _earliest(problem, [solver.value(v) for v in model.start], "makespan")
            return Schedule(start, length(problem, start, objective), 0, "feasible", "cp-sat")
    raise memory_error(problem, known, status == cp_model.INFEASIBLE)

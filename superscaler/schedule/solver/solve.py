"""Solve: the best known schedule, improved or proven by CP-SAT within a time limit."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace

from ortools.sat.python import cp_model

from superscaler.errors import ScheduleError
from superscaler.schedule.bound import Limits, bound_by, limits_of, lower_bound
from superscaler.schedule.check import require
from superscaler.schedule.memory import fits
from superscaler.schedule.portfolio import portfolio
from superscaler.schedule.problem import Problem, Schedule
from superscaler.schedule.replay import earliest, length
from superscaler.schedule.solver.between import Between
from superscaler.schedule.solver.horizon import span_horizon
from superscaler.schedule.solver.infeasible import cannot_fit, memory_error
from superscaler.schedule.solver.model import Model, build_model
from superscaler.schedule.solver.repetend import Round, round_of, shorten_by_rounds
from superscaler.schedule.solver.run import run
from superscaler.schedule.solver.settings import Settings
from superscaler.schedule.solver.swing import swing
from superscaler.schedule.solver.windows import improve_by_windows

REPEATING = 0.8  # the share of the time after which rounds that repeat are not looked for
IN_WINDOWS = 0.12  # the share of the time that windows may take
NEAR = 0.5  # the share of the time left that looks, for the span, at what ends no later than known
GAP = 0.005  # of the best known schedule, from which on these are tried

ENDED = "the time limit ended the search"
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

    Raises ScheduleError when edges contradict each other, DoesNotFitError when no schedule fits the
    memory: on which device, by how much, and what would help.
    """
    if objective not in OBJECTIVES:
        raise ScheduleError(f"objective {objective!r}: expected one of {', '.join(OBJECTIVES)}")
    search = _Search(problem, objective, time_limit_s, workers, seed, progress)
    listed = search.listed()
    found = search.round(listed)
    if listed is None or found is None:
        best = search.best_known(listed, hints)
        search.tell(best.length, search.bound)
        if best.length > search.bound:
            best = search.improve(best)
    else:
        best = search.by_rounds(found, listed, hints)
    require(problem, best.start)
    return search.judged(best)


@dataclass
class _Search:
    problem: Problem
    objective: str
    time_limit_s: float
    workers: int
    seed: int
    report: Report | None
    begun: float = field(default_factory=time.perf_counter)
    limits: Limits = field(init=False)
    bound: int = field(init=False)

    def __post_init__(self) -> None:
        self.limits = limits_of(self.problem)
        if self.objective == "makespan":
            self.bound = bound_by(self.problem, self.limits)
        else:
            self.bound = lower_bound(self.problem, self.objective)

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.perf_counter() - self.begun

    def tell(self, best: int, bound: int) -> None:
        """Reports what is known."""
        if self.report is not None:
            self.report(Progress(best, bound, self.seconds))

    def listed(self) -> Schedule | None:
        """The best list schedule; raises DoesNotFitError where nothing can fit."""
        if cannot_fit(self.problem):
            raise memory_error(self.problem, portfolio(self.problem, self.objective), True)
        return swing(self.problem, self.limits, self.objective, self.bound)

    def best_known(self, listed: Schedule | None, hints: Sequence[Schedule] | None) -> Schedule:
        """The best of list schedules and hints; the portfolio is asked only where it can help."""
        if listed is not None and listed.length <= self.bound:
            return listed
        known = portfolio(self.problem, self.objective) if hints is None else list(hints)
        fitting = [s for s in known if fits(self.problem, s.start)]
        if listed is not None:
            fitting.append(listed)
        if not fitting:
            return self.first(known)
        return min(fitting, key=lambda s: s.length)

    def first(self, known: Sequence[Schedule]) -> Schedule:
        """A schedule within the memory, when none of the known ones is."""
        works = self.problem.works
        latency = max((e.latency for e in self.problem.edges), default=0)
        horizon = sum(w.duration for w in works) + latency * len(works)
        longest = max((s.length for s in known), default=horizon)
        for size in dict.fromkeys((2 * longest, horizon)):
            model = build_model(self.problem, self.limits, [0] * len(works), size, 0)
            model.cp.clear_hints()  # type: ignore[no-untyped-call]
            model.cp.clear_objective()  # type: ignore[no-untyped-call]
            left = max(self.time_limit_s - self.seconds, 1.0) / 2
            solver = Settings(left, self.workers, self.seed).solver()
            status = run(solver, model.cp)
            if status in (cp_model.OPTIMAL, cp_model.FEASIBLE):
                return self.solved(solver, model, 0)
        raise memory_error(self.problem, known, status == cp_model.INFEASIBLE)

    def round(self, listed: Schedule | None) -> Round | None:
        """What may repeat: where microbatches take turns in a memory, and the makespan is to be
        shorter than that of a list schedule."""
        if listed is None or listed.length <= self.bound or self.objective != "makespan":
            return None
        return round_of(self.problem, self.limits)

    def by_rounds(
        self, found: Round, listed: Schedule, hints: Sequence[Schedule] | None
    ) -> Schedule:
        """The best known schedule or a shorter one, made of rounds that repeat, and windows on it.
        The bound is raised at the same time, if there may be two threads, and afterwards."""
        between = Between(self.problem, self.limits, listed, self.bound, self.seed, self.tell)
        with between.raising(lambda: self.until(1.0)) if self.workers > 1 else nullcontext():
            self.shorten(between, found, self.best_known(listed, hints))
            between.raise_bound(lambda: self.until(1.0))
        self.bound = between.bound
        return _unproven(between.best, self.bound, ENDED) if between.open else between.best

    def shorten(self, between: Between, found: Round, known: Schedule) -> None:
        """By what is known, by rounds, and then by windows."""
        between.found(known.start, known.made_by)
        if between.open < GAP * between.best.length:
            return
        shorten_by_rounds(between, found, lambda: self.until(REPEATING))
        settings = Settings(self.time_limit_s, max(1, self.workers - 1), self.seed)
        end = self.seconds / self.time_limit_s + IN_WINDOWS
        improve_by_windows(between, found.size, settings, lambda: self.until(end))

    def until(self, share: float) -> float:
        """Seconds until this share of the time is over."""
        return share * self.time_limit_s - self.seconds

    def improve(self, best: Schedule) -> Schedule:
        """CP-SAT's best within the time that is left, with the best known one as a hint."""
        if self.objective == "makespan":
            return self.ended_by(best, best.length, self.left)
        best = self.near(best)
        if best.length <= self.bound:
            return best
        horizon = span_horizon(self.problem, self.limits, best.length)
        return self.ended_by(best, horizon, self.left)

    def near(self, best: Schedule) -> Schedule:
        """CP-SAT's best of those that end no later than the best known one, for the span.

        Most good ones do, and are found sooner among these; but what is proven of these is not
        proven of all: a schedule may end later and have a smaller span.
        """
        end = max(s + w.duration for s, w in zip(best.start, self.problem.works))
        near = self.ended_by(best, end, NEAR * self.left, is_all=False)
        return replace(near, bound=self.bound, status="heuristic", notes=())

    @property
    def left(self) -> float:
        """Seconds left for CP-SAT."""
        return max(self.time_limit_s - self.seconds, 0.1)

    def ended_by(self, best: Schedule, horizon: int, left: float, is_all: bool = True) -> Schedule:
        """CP-SAT's best of the schedules that end by `horizon`; `is_all`: there is a best one of
        all among these."""
        model = build_model(
            self.problem, self.limits, best.start, best.length, self.bound, self.objective, horizon
        )
        solver = Settings(left, self.workers, self.seed).solver()
        clock = _Clock(self, is_all)
        solver.best_bound_callback = clock.on_bound
        status = run(solver, model.cp, clock)
        if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
            ended = f"no better order than the best known one was found in {self.seconds:.1f} s"
            return _unproven(best, self.bound, ended)
        proven = max(self.bound, round(solver.best_objective_bound))
        best = min(best, self.solved(solver, model, proven), key=lambda s: s.length)
        if best.length <= proven:
            return replace(best, bound=proven, status="optimal")
        return _unproven(best, proven, ENDED)

    def solved(self, solver: cp_model.CpSolver, model: Model, bound: int) -> Schedule:
        """What CP-SAT found; for the makespan with nothing later than it has to be."""
        start = tuple(solver.value(v) for v in model.start)
        if self.objective == "makespan":
            start = earliest(self.problem, start)
        size = length(self.problem, start, self.objective)
        return Schedule(start, size, bound, "feasible", "cp-sat")

    def judged(self, best: Schedule) -> Schedule:
        """With what is proven of it."""
        bound = max(self.bound, best.bound if best.status != "heuristic" else 0)
        if best.length <= bound:
            best = replace(best, status="optimal", notes=())
            bound = best.length
        return replace(best, bound=bound, seconds=self.seconds)


class _Clock(cp_model.CpSolverSolutionCallback):
    """Reports every better solution and every better bound."""

    def __init__(self, search: _Search, is_all: bool) -> None:
        super().__init__()
        self.search, self.best, self.bound = search, 0, search.bound
        self.is_all = is_all  # whether the model's bound is one of all schedules

    def on_solution_callback(self) -> None:
        self.best = round(self.objective_value)
        self.on_bound(self.best_objective_bound)

    def on_bound(self, bound: float) -> None:
        """A better bound."""
        if self.is_all:
            self.bound = max(self.bound, round(bound))
        if self.best:
            self.search.tell(self.best, min(self.bound, self.best))


def _unproven(best: Schedule, bound: int, ended: str) -> Schedule:
    """The best schedule found, with a note of what is open."""
    most = max(0.0, (best.length - bound) / best.length)
    note = (
        f"{ended}; the best order may be up to {most:.1%} shorter; give it more time to know: "
        "--time-limit SECONDS, or schedule: {time_limit_s: SECONDS} in the plan"
    )
    return replace(best, bound=bound, status="feasible", notes=(note,))

"""Between: the best schedule that is known, what none can beat, and questions that narrow both.

Several threads may ask at once: CP-SAT runs outside of Python's lock. A question that another's
answer has settled is stopped.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from ortools.sat.python import cp_model

from superscaler.schedule.bound import Limits
from superscaler.schedule.check import check
from superscaler.schedule.problem import Problem, Schedule
from superscaler.schedule.replay import earliest, length
from superscaler.schedule.solver.crossings import crossings
from superscaler.schedule.solver.decide import Ties, any_by, no_ties
from superscaler.schedule.solver.run import run, stop
from superscaler.schedule.solver.settings import Settings

FIRST = 1 / 8  # of what is between: the part that the first question for the bound is about
NEAR = 0.0095  # of the bound: a schedule that is longer by this much is near enough
LESS = 3  # times less is asked for where there was no answer
LONGEST = 0.8  # the share of the time left that one question may take; one for less takes all

SecondsLeft = Callable[[], float]
Tell = Callable[[int, int], None]  # of the best length and the bound


class Between:
    """What is known from both sides: `best` and `bound`."""

    def __init__(
        self, problem: Problem, limits: Limits, best: Schedule, bound: int, seed: int, tell: Tell
    ) -> None:
        self.problem, self.limits, self.best, self.bound = problem, limits, best, bound
        self.seed, self.tell = seed, tell
        self.pairs = crossings(problem, limits.links)
        self.lock = threading.RLock()
        self.asked: dict[cp_model.CpSolver, tuple[int, bool]] = {}  # horizon, of all schedules
        self.is_over = False

    @property
    def open(self) -> int:
        """Ticks between the best schedule and the bound."""
        return self.best.length - self.bound

    def ask(self, horizon: int, seconds: float, ties: Ties | None = None) -> bool | None:
        """Whether a schedule, of those with the ties, ends by `horizon`; None if not decided in
        the time, or if it does not matter any more."""
        if seconds <= 0:
            return None
        until, is_all = time.perf_counter() + seconds, ties is None
        question = any_by(
            self.problem, self.limits, horizon, self.pairs, ties or no_ties(self.problem)
        )
        if question is None:
            return self._no(horizon, is_all)
        if (seconds := until - time.perf_counter()) <= 0:
            return None
        solver = Settings(seconds, 1, self.seed).decider()
        status = self._run(solver, question.cp, horizon, is_all)
        if status == cp_model.INFEASIBLE:
            return self._no(horizon, is_all)
        if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
            return None
        self.found([solver.value(s) for s in question.start], "cp-sat" if is_all else "rounds")
        return True

    def improve(
        self,
        solver: cp_model.CpSolver,
        cp: cp_model.CpModel,
        start: Sequence[cp_model.LinearExprT],
        made_by: str,
    ) -> bool:
        """Takes the best of some schedules, if it is shorter than the best of all until now. Stops
        when that is known to be the shortest."""
        status = self._run(solver, cp, self.best.length - 1, is_all=False)
        if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
            return False
        return self.found([solver.value(s) for s in start], made_by)

    def _run(
        self, solver: cp_model.CpSolver, cp: cp_model.CpModel, horizon: int, is_all: bool
    ) -> cp_model.CpSolverStatus:
        """`run`, as one of those that an answer may stop."""
        with self.lock:
            self.asked[solver] = horizon, is_all
        try:
            return run(solver, cp)
        finally:
            with self.lock:
                del self.asked[solver]

    def _no(self, horizon: int, is_all: bool) -> bool:
        """Takes that no schedule ends by `horizon`: none with some ties, or none of all."""
        if is_all:
            with self.lock:
                self.bound = max(self.bound, min(horizon + 1, self.best.length))
                self._settle()
        return False

    def found(self, start: Sequence[int], made_by: str) -> bool:
        """Takes a schedule, with nothing later than it has to be, if it is shorter."""
        early = earliest(self.problem, start)
        size = length(self.problem, early)
        with self.lock:
            if size >= self.best.length or check(self.problem, early):
                return False
            self.best = Schedule(early, size, self.bound, "heuristic", made_by)
            self._settle()
        return True

    def _settle(self) -> None:
        """Reports, and stops what is answered."""
        self.tell(self.best.length, self.bound)
        for solver, (horizon, is_all) in self.asked.items():
            if horizon < self.bound or (is_all and horizon >= self.best.length):
                solver.stop_search()

    @contextmanager
    def raising(self, seconds_left: SecondsLeft) -> Iterator[None]:
        """Raises the bound in another thread meanwhile."""
        with ThreadPoolExecutor(1) as pool:
            raised = pool.submit(self.raise_bound, seconds_left, FIRST)
            try:
                yield
            finally:
                self.is_over = True
                stop(raised, self._running)
        raised.result()

    def _running(self) -> list[cp_model.CpSolver]:
        with self.lock:
            return list(self.asked)

    def raise_bound(self, seconds_left: SecondsLeft, first: float | None = None) -> None:
        """Asks for what is near enough to the bound (at first for this part of what is open), and
        for less where there was no answer. Two threads that do so ask for different lengths."""
        step, share = NEAR * self.bound if first is None else first * self.open, LONGEST
        while self.open > 0 and (left := seconds_left()) > 0 and not self.is_over:
            answer = self.ask(self._next_horizon(step), left * share)
            if answer is None:
                step, share = step / LESS, 1.0
            else:
                step, share = NEAR * self.bound, LONGEST

    def _next_horizon(self, step: float) -> int:
        """`step` more than the bound, at most half of what is open; less than what is asked now."""
        with self.lock:
            asked = [horizon - self.bound for horizon, is_all in self.asked.values() if is_all]
            least = min((more for more in asked if more > 0), default=None)
            if least is not None and step >= least:
                step = least / LESS
            return self.bound + int(min(step, self.open / 2))

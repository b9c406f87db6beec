"""Run: CP-SAT so that Ctrl-C ends it at once.

CP-SAT's own handler of the signal takes it for "what is best so far is enough", and it crashes
where several solvers run at once (release 9.15). Python itself sees a signal only between two of
its own steps, so CP-SAT runs in another thread while this one waits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from ortools.sat.python import cp_model

SOON = 0.02  # seconds


def run(
    solver: cp_model.CpSolver,
    model: cp_model.CpModel,
    callback: cp_model.CpSolverSolutionCallback | None = None,
) -> cp_model.CpSolverStatus:
    """`solver.solve`; what interrupts this thread ends it."""
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(solver.solve, model, callback)
        try:
            return running.result()
        except BaseException:
            stop(running, lambda: [solver])
            raise


def stop(running: Future[Any], solvers: Callable[[], Iterable[cp_model.CpSolver]]) -> None:
    """Stops solvers until what runs them has ended: one that has not begun does not stop."""
    while wait([running], SOON).not_done:
        for solver in solvers():
            solver.stop_search()

"""Settings: how long CP-SAT may take, on how many threads, from which seed."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ortools.sat.python import cp_model


@dataclass(frozen=True, slots=True)
class Settings:
    """What every call of CP-SAT in one search shares."""

    time_limit_s: float
    workers: int
    seed: int

    def within(self, time_limit_s: float) -> Settings:
        """The same with another time limit."""
        return replace(self, time_limit_s=time_limit_s)

    def solver(self) -> cp_model.CpSolver:
        """CP-SAT with these settings."""
        solver = cp_model.CpSolver()
        solver.parameters.max_time_in_seconds = self.time_limit_s
        solver.parameters.num_workers = self.workers
        solver.parameters.random_seed = self.seed
        return solver

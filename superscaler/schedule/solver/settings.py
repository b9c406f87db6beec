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
        solver.parameters.catch_sigint_signal = False  # see `run`
        return solver

    def decider(self) -> cp_model.CpSolver:
        """CP-SAT to decide what has literals for orders: it is no use to relax these to numbers,
        nor to look for more of them."""
        solver = self.solver()
        solver.parameters.num_workers = 1
        solver.parameters.cp_model_probing_level = 0
        solver.parameters.linearization_level = 0
        solver.parameters.use_precedences_in_disjunctive_constraint = False
        solver.parameters.new_linear_propagation = False
        return solver

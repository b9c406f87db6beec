"""Solver: when every work starts, decided by OR-Tools CP-SAT."""

from superscaler.schedule.solver.solve import Progress, solve

__all__ = ["Progress", "solve"]

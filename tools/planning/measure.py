"""Measure: step time and peak memory of candidates, simulated; the best of them at full size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import superscaler as ss
from planning.cells import Cell
from planning.conventional import Candidate
from superscaler.errors import SuperScalerError
from superscaler.graph.axis import Axes
from superscaler.graph.graph import Graph
from superscaler.trace.axes import infer_axes

FINALISTS = 3  # by estimate, that are simulated with all microbatches


@dataclass(frozen=True)
class Measured:
    """A candidate: its step time for the global batch, and the fullest device's bytes.

    `is_estimate`: of a few microbatches, with the busiest device's time for each further one.
    """

    candidate: Candidate
    step_us: float
    peak_bytes: int
    fits: bool
    is_estimate: bool = True
    why: str = ""  # it was refused


@dataclass
class Search:
    """The candidates of a cell, best bound first, each simulated unless its bound rules it out.

    The bound of a plan is the time of the whole model on one device, microbatch by microbatch, by
    the number of devices, and the pipeline's fill and drain: cutting operators smaller never makes
    their sum shorter in the cost model.
    """

    cell: Cell
    say: Callable[[str], None]
    found: list[Measured] = field(default_factory=list)

    def best(self, candidates: Sequence[Candidate], to_beat: float) -> Measured | None:
        """The shortest step that fits the memory, simulated at full size; None if none does.

        `to_beat` (us): candidates that cannot be shorter are left out.
        """
        bounded = sorted((self.bound_us(c), c.text, c) for c in candidates)
        best_us, estimates = to_beat, []
        for bound, _, candidate in bounded:
            if bound >= best_us:
                continue
            estimate = self.estimate(candidate)
            self.found.append(estimate)
            if estimate.fits:
                estimates.append(estimate)
                best_us = min(best_us, estimate.step_us)
        finals = sorted(estimates, key=lambda m: m.step_us)[:FINALISTS]
        whole = [m for m in (self.measure(f.candidate) for f in finals) if m.fits]
        return min(whole, key=lambda m: m.step_us, default=None)

    def bound_us(self, candidate: Candidate) -> float:
        microbatches = self.cell.global_batch // candidate.samples
        fill = 1 + (candidate.stages - 1) / (microbatches * candidate.chunks)
        alone = _alone_us(self.cell, candidate.inner)
        return alone * self.cell.global_batch / self.cell.devices * fill

    def estimate(self, candidate: Candidate) -> Measured:
        all_of_them = self.cell.global_batch // candidate.samples
        few = min(all_of_them, 2 * candidate.stages + (2 if candidate.stages == 1 else 0))
        try:
            simulation = _simulate(self.cell, candidate, few)
        except SuperScalerError as error:
            return self._refused(candidate, str(error))
        each = max((c.busy_us.get("compute", 0.0) + c.exposed_us) / few for c in simulation.classes)
        step = simulation.step_us + (all_of_them - few) * each
        return self._measured(candidate, step, simulation.peak_bytes, True)

    def measure(self, candidate: Candidate) -> Measured:
        simulation = _simulate(self.cell, candidate, self.cell.global_batch // candidate.samples)
        return self._measured(candidate, simulation.step_us, simulation.peak_bytes, False)

    def _measured(
        self, candidate: Candidate, step_us: float, peak: int, is_estimate: bool
    ) -> Measured:
        fits = peak <= self.cell.cluster.device(0).memory_bytes
        kind = "estimated" if is_estimate else "simulated"
        self.say(f"  {kind} {step_us / 1e6:8.2f} s {peak / 1e9:6.1f} GB  {candidate.text}")
        return Measured(candidate, step_us, peak, fits, is_estimate)

    def _refused(self, candidate: Candidate, why: str) -> Measured:
        self.say(f"  refused {candidate.text}: {why.splitlines()[0]}")
        return Measured(candidate, float("inf"), 0, False, True, why)


@lru_cache(maxsize=6)
def _graph(cell: str, batch: int, make: Callable[[int], object]) -> tuple[Graph, Axes]:
    workload = make(batch)
    graph = ss.trace(workload.step, workload.model, workload.batch, workload.optimizer)
    return graph, infer_axes(graph)


def _simulate(cell: Cell, candidate: Candidate, microbatches: int):
    graph, axes = _graph(cell.name, candidate.samples * microbatches, _Maker(cell))
    program = ss.compile(graph, candidate.plan(microbatches), cell.cluster, axes=axes)
    return program.simulate()


@dataclass(frozen=True)
class _Maker:
    """Makes a cell's workload; equal for equal cells, so that graphs are kept."""

    cell: Cell

    def __hash__(self) -> int:
        return hash(self.cell.name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Maker) and self.cell.name == other.cell.name

    def __call__(self, batch: int):
        return self.cell.workload(batch)


_ALONE: dict[tuple[str, str], float] = {}


def _alone_us(cell: Cell, inner: str) -> float:
    """The time that one device takes for a sample, without communication and update, under what a
    plan does inside a device ("hybrid({more})", a recompute or a co-shard)."""
    key = (cell.name, inner)
    if key not in _ALONE:
        times = []
        for count in (2, 3):
            graph, axes = _graph(cell.name, count, _Maker(cell))
            plan = inner.replace("{m}", str(count))
            program = ss.compile(graph, plan, ss.Cluster.load("v100-32g-8x1"), axes=axes)
            times.append(program.simulate().step_us)
        _ALONE[key] = times[1] - times[0]
    return _ALONE[key]

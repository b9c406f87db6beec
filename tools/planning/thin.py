"""Thin: what a plan takes in a model of full depth, from two shallow ones.

Blocks are alike, so time and bytes of a plan without a pipeline are a constant and a slope in the
model's depth. That makes its step known without simulating the whole, and floors for pipelines.
"""

from __future__ import annotations

import gc
from dataclasses import astuple, dataclass
from functools import lru_cache

import superscaler as ss
from planning.cells import Cell
from planning.conventional import Candidate
from superscaler.graph.axis import Axes
from superscaler.graph.graph import Graph
from superscaler.simulate.machine import COPY_LANES
from superscaler.simulate.simulation import RankClass, Simulation
from superscaler.trace.axes import infer_axes

FEW = (2, 4)  # microbatches: powers of two, so that plans share traces


@dataclass(frozen=True)
class Cost:
    """On the devices of one stage: of each microbatch, of the rest of the step, and bytes."""

    microbatch_us: float
    rest_us: float
    resident_bytes: float
    passing_bytes: float  # at the peak, beside what is resident
    kept_bytes: float  # from one microbatch to the next (gradients that add up), beside those
    held_bytes: float  # from a microbatch's forward to its backward, beside those
    copy_us: float  # of each microbatch, on the busier of the lanes from and to the host
    host_bytes: float  # in host memory


@dataclass(frozen=True)
class Line:
    """Costs at two depths, and what they tell of others."""

    depths: tuple[int, int]
    costs: tuple[Cost, ...]

    def at(self, depth: int) -> Cost:
        a, b = self.costs
        share = (depth - self.depths[0]) / (self.depths[1] - self.depths[0])
        return Cost(*(x + share * (y - x) for x, y in zip(astuple(a), astuple(b))))


@dataclass(frozen=True)
class Floor:
    """What a candidate takes at least; `copy_us` of the step are copies from or to the host."""

    step_us: float
    peak_bytes: float
    copy_us: float = 0.0
    host_bytes: float = 0.0


def is_known(candidate: Candidate) -> bool:
    """Whether its floor is what it takes."""
    return candidate.stages == 1 and candidate.whole is None


def fastest_us(cell: Cell, candidate: Candidate) -> float:
    """A floor of the step's time that many candidates share: no forward twice, nothing sharded."""
    return _step_us(cell, candidate, _line(cell, candidate.fast, candidate))


def floor(cell: Cell, candidate: Candidate) -> Floor:
    """From `Cost` at full depth. A pipeline's stages share what rests and what is kept; its first
    stage under 1F1B holds as many microbatches as there are stages, of a part of the layers each;
    some stage has what passes in a model without layers (the head's logits, or what a layer has
    for a moment)."""
    if candidate.whole is not None:  # of some blocks: no slower than of none, as small as of all
        return Floor(fastest_us(cell, candidate), floor(cell, candidate.whole).peak_bytes)
    line = _line(cell, candidate.inside, candidate)
    cost, stages = line.at(cell.full_depth), candidate.stages
    if stages == 1:
        peak = cost.resident_bytes + cost.passing_bytes
        copy_us = cell.global_batch // candidate.samples * cost.copy_us
        return Floor(_step_us(cell, candidate, line), peak, copy_us, cost.host_bytes)
    outside = line.at(0)  # of the layers
    once = max(0.0, outside.passing_bytes - outside.kept_bytes)
    grown = max(0.0, cost.held_bytes - outside.held_bytes)
    held = max(once + grown / stages, grown if candidate.is_filled else 0.0)
    rests = cost.resident_bytes + cost.kept_bytes
    return Floor(_step_us(cell, candidate, line), rests / stages + held)


def _step_us(cell: Cell, candidate: Candidate, line: Line) -> float:
    """A pipeline's stages share the work, of which one has more than half of what is not layers
    (the head and the loss); 1F1B fills and drains."""
    microbatches = cell.global_batch // candidate.samples
    cost = line.at(cell.full_depth)
    if candidate.stages == 1:
        return microbatches * cost.microbatch_us + cost.rest_us
    share = cost.microbatch_us / candidate.stages
    if not candidate.is_1f1b:
        return share * microbatches
    longest = max(share, line.at(0).microbatch_us / 2)
    return longest * microbatches + share * (candidate.stages - 1) / candidate.chunks


def _line(cell: Cell, inside: str, candidate: Candidate) -> Line:
    return _kept_line(cell, inside, candidate.samples, candidate.width)


@lru_cache(maxsize=4096)
def _kept_line(cell: Cell, inside: str, samples: int, width: int) -> Line:
    return Line(cell.thin, tuple(_cost(cell, inside, samples, width, d) for d in cell.thin))


def _cost(cell: Cell, inside: str, samples: int, width: int, depth: int) -> Cost:
    cluster = ss.Cluster.load(f"v100-32g-8x{width}")
    few, more = (
        simulated(cell, depth, inside.replace("{m}", str(count)), samples * count, cluster)
        for count in FEW
    )
    each = (more.step_us - few.step_us) / (FEW[1] - FEW[0])
    fullest = max(few.classes, key=lambda c: c.peak_bytes)
    resident = fullest.resident_bytes
    kept, held = _between(few, fullest)
    rest = few.step_us - FEW[0] * each
    passing = fullest.peak_bytes - resident
    copy_us = (_copy_us(more) - _copy_us(few)) / (FEW[1] - FEW[0])
    host = few.host_peak_bytes
    return Cost(each, rest, resident, passing, kept - resident, held - kept, copy_us, host)


def _copy_us(found: Simulation) -> float:
    return max(copying_us(ranks) for ranks in found.classes)


def copying_us(ranks: RankClass) -> float:
    """How long the busier of the lanes between device and host is busy."""
    return max(ranks.busy_us.get(lane, 0.0) for lane in COPY_LANES.values())


def _between(found: Simulation, ranks: RankClass) -> tuple[int, int]:
    """The bytes alive after the first microbatch's backward, and after the second's forward."""

    def alive(microbatch: int, kinds: str) -> int:
        ends = (
            e.end_us
            for e in ranks.events
            if e.microbatch == microbatch and found.functions[e.function].kind in kinds
        )
        end = max(ends, default=0.0)
        return [num_bytes for us, num_bytes in ranks.memory if us <= end][-1]

    return alive(0, "BW"), alive(1, "F")


def simulated(cell: Cell, depth: int, plan: str, batch: int, cluster: ss.Cluster) -> Simulation:
    """One step of a model of some depth."""
    keep = _thin_graph if depth <= max(cell.thin) else _graph
    graph, axes = keep(cell, depth, batch)
    return ss.compile(graph, plan, cluster, axes=axes).simulate()


def _traced(cell: Cell, depth: int, batch: int) -> tuple[Graph, Axes]:
    workload = cell.workload(batch, depth)
    graph = ss.trace(workload.step, workload.model, workload.batch, workload.optimizer)
    axes = infer_axes(graph)
    gc.freeze()  # it stays: no collection has to look at it
    return graph, axes


_thin_graph = lru_cache(maxsize=64)(_traced)
_graph = lru_cache(maxsize=24)(_traced)

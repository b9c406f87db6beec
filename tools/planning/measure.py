"""Measure: step time and peak memory of candidates, simulated; the best of them at full size."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from planning.cells import Cell
from planning.conventional import Candidate
from planning.thin import Floor, copying_us, fastest_us, floor, is_known, simulated
from superscaler.errors import SuperScalerError

T = TypeVar("T")
CLOSE = 1.01  # estimates are so exact


@dataclass(frozen=True)
class Measured:
    """A candidate: its step time for the global batch, and the fullest device's bytes.

    `is_estimate`: from shallow models or a few microbatches. `compute_us` and `exposed_us`
    (communication that nothing hides) are means over devices; the rest of a step is idle.
    """

    candidate: Candidate
    step_us: float
    peak_bytes: float
    fits: bool
    is_estimate: bool = True
    compute_us: float = 0.0
    exposed_us: float = 0.0


RANGE = re.compile(r"\{(\d+)-(\d+)\}")  # of numbered blocks
RULED_OUT = Measured(Candidate("", "", "", 1, 1), float("inf"), 0, False)


def _scaled(numbers: re.Match[str], share: float) -> str:
    """The range of blocks that is the same part of fewer blocks."""
    first, end = int(numbers[1]) * share, (int(numbers[2]) + 1) * share
    return f"{{{round(first)}-{round(end) - 1}}}"


@dataclass
class Search:
    """The candidates of a cell, best floor first, each simulated unless its floor rules it out."""

    cell: Cell
    say: Callable[[str], None]
    least_bytes: float = float("inf")  # of the candidates that do not fit
    estimated: dict[str, Measured | None] = field(default_factory=dict)
    deep: dict[str, Measured | None] = field(default_factory=dict)  # of those, at full depth

    def best(self, candidates: Sequence[Candidate], to_beat: float) -> Measured | None:
        """The shortest step (us) under `to_beat` that fits the memory, simulated whole.

        What an estimate has ruled out is looked at again where the estimate turns out wrong.
        """
        while estimates := self.estimates(candidates, to_beat):
            first = estimates[0]
            if not first.is_estimate:
                return first
            self.estimated[first.candidate.text] = self.simulated(first.candidate)
        return None

    def simulated(self, candidate: Candidate) -> Measured | None:
        """One candidate, simulated whole; None: it is refused."""
        whole = self.cell.global_batch // candidate.samples
        return self._at(candidate, whole, whole, False)

    def estimates(self, candidates: Sequence[Candidate], to_beat: float) -> list[Measured]:
        """Those that seem to fit the memory, shortest step first. Candidates that cannot be
        shorter than the best one, nor than `to_beat` (us), are left out."""
        best_us, found = to_beat, []
        for us, candidate in sorted(self.fastest(candidates), key=lambda item: item[1].stages > 1):
            if us > best_us * CLOSE:
                continue
            if candidate.text not in self.estimated:
                self.estimated[candidate.text] = self._unless_ruled_out(candidate, best_us)
            estimate = self.estimated[candidate.text]
            if estimate is RULED_OUT:
                del self.estimated[candidate.text]  # by what may turn out not to fit
            elif estimate is not None and estimate.fits:
                found.append(estimate)
                best_us = min(best_us, estimate.step_us)
        return sorted(found, key=lambda m: m.step_us)

    def floor(self, candidate: Candidate) -> Floor | None:
        """What a candidate takes at least; None: it is refused."""
        return self._tried(floor, candidate)

    def fastest(self, candidates: Sequence[Candidate]) -> list[tuple[float, Candidate]]:
        """What they take (us) if memory is no matter, the shortest first."""
        tried = [(self._tried(fastest_us, c), c) for c in candidates]
        found = [(us, c) for us, c in tried if us is not None]
        return sorted(found, key=lambda item: (item[0], item[1].text))

    def peak(self, candidate: Candidate) -> float | None:
        """The bytes that a candidate takes at full depth; None: it is refused."""
        if candidate.text not in self.deep:
            self.deep[candidate.text] = self._at_full_depth(candidate)
        self.estimated[candidate.text] = self.deep[candidate.text]
        found = self.deep[candidate.text]
        return None if found is None else found.peak_bytes

    def shortest(self, candidates: Sequence[Candidate], to_beat: float) -> float:
        """The step (us) of the best of them that fits, of those whose `peak` is known, or
        `to_beat`."""
        found = (self.deep.get(c.text) for c in candidates)
        return min([to_beat, *(m.step_us for m in found if m is not None and m.fits)])

    @property
    def capacity(self) -> int:
        """Of a device, in bytes."""
        return self.cell.cluster.device(0).memory_bytes

    @property
    def host_capacity(self) -> float:
        """A device's share of its host's memory, in bytes."""
        cluster = self.cell.cluster
        devices = min(cluster.num_devices, cluster.devices_per_node)
        return cluster.host_of(0).memory_gbytes * 1e9 / devices

    def _tried(self, what: Callable[[Cell, Candidate], T], candidate: Candidate) -> T | None:
        try:
            return what(self.cell, candidate)
        except SuperScalerError as error:
            self._refused(candidate, error)
            return None

    def _unless_ruled_out(self, candidate: Candidate, best_us: float) -> Measured | None:
        least = self.floor(candidate)
        if least is None:
            return None
        if least.peak_bytes > self.capacity * CLOSE:
            self.least_bytes = min(self.least_bytes, least.peak_bytes)
            return None
        if least.host_bytes > self.host_capacity:
            return None
        return RULED_OUT if least.step_us > best_us * CLOSE else self._estimate(candidate, least)

    def _estimate(self, candidate: Candidate, least: Floor) -> Measured | None:
        if is_known(candidate):
            return self._measured(candidate, least.step_us, least.peak_bytes, True)
        return self._at_full_depth(candidate)

    def _at_full_depth(self, candidate: Candidate) -> Measured | None:
        all_of_them = self.cell.global_batch // candidate.samples
        few = min(all_of_them, 2 * candidate.stages + (2 if candidate.stages == 1 else 0))
        return self._at(candidate, few, all_of_them, True)

    def _at(self, candidate: Candidate, few: int, whole: int, is_estimate: bool) -> Measured | None:
        """With a few microbatches, each further one as long as a device is busy with one."""
        try:
            depths = self._depths(candidate)
            found = [self._simulated(candidate, depth, few, whole) for depth in depths]
        except SuperScalerError as error:
            self._refused(candidate, error)
            return None
        numbers = found[0]
        if len(depths) > 1:
            share = (self.cell.full_depth - depths[0]) / (depths[1] - depths[0])
            numbers = tuple(a + share * (b - a) for a, b in zip(*found))
        return self._measured(candidate, numbers[0], numbers[1], is_estimate, numbers[2:])

    def _depths(self, candidate: Candidate) -> tuple[int, ...]:
        """The model's own depth; where it is nothing but equal blocks, one and two for each stage,
        or as many as can be treated in different ways, tell it."""
        if self.cell.count:
            few = self.cell.grain if RANGE.search(candidate.text) else candidate.stages
            return few, 2 * few
        return (self.cell.full_depth,)

    def _simulated(
        self, candidate: Candidate, depth: int, few: int, whole: int
    ) -> tuple[float, ...]:
        """Step, peak, compute and exposed communication."""
        plan = candidate.plan(few).replace(f"count={self.cell.count}", f"count={depth}")
        if self.cell.count:
            share = depth / self.cell.count
            plan = RANGE.sub(lambda found: _scaled(found, share), plan)
        batch = candidate.samples * few
        found = simulated(self.cell, depth, plan, batch, self.cell.cluster)
        each = max(
            max(c.busy_us.get("compute", 0.0) + c.exposed_us, copying_us(c)) / few
            for c in found.classes
        )
        busy = (1 - found.bubble) * found.step_us
        return found.step_us + (whole - few) * each, found.peak_bytes, busy, found.exposed_us

    def _measured(
        self,
        candidate: Candidate,
        step_us: float,
        peak: float,
        is_estimate: bool,
        parts: Sequence[float] = (0.0, 0.0),
    ) -> Measured:
        fits = peak <= self.capacity
        if not fits:
            self.least_bytes = min(self.least_bytes, peak)
        kind = "estimated" if is_estimate else "simulated"
        self.say(f"  {kind} {step_us / 1e6:8.2f} s {peak / 1e9:6.1f} GB  {candidate.text}")
        return Measured(candidate, step_us, peak, fits, is_estimate, *parts)

    def _refused(self, candidate: Candidate, error: SuperScalerError) -> None:
        self.say(f"  refused {candidate.text}: {str(error).splitlines()[0]}")

"""Place: stage cuts, the stages' devices and the order of the work, decided together.

Cuts that balance the devices come from dynamic programming; moving a boundary or a stage, judged by
list schedules and bounds, improves them; CP-SAT finishes the best few.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from superscaler.errors import DoesNotFitError, ScheduleError
from superscaler.schedule.bound import bound_by, limits_of
from superscaler.schedule.greedy import Rule, greedy
from superscaler.schedule.memory import fits
from superscaler.schedule.pipeline import Capacity
from superscaler.schedule.placement.layers import (
    Cut,
    Job,
    LayerCost,
    balanced,
    even_cuts,
    problem_of,
)
from superscaler.schedule.placement.moves import moves
from superscaler.schedule.problem import Problem, Schedule
from superscaler.schedule.replay import length
from superscaler.schedule.solver.infeasible import cannot_fit
from superscaler.schedule.solver.solve import Progress, solve
from superscaler.schedule.solver.swing import swing

KINDS = ("linear", "v", "looped", "free")
FINISHED = 2  # cuts that CP-SAT improves
SEARCH_SHARE = 0.6  # of the time


@dataclass(frozen=True, slots=True)
class PlacedSchedule:
    """Stage s begins with layer `cuts[s]` and runs on `devices[s]`; the order is `schedule`'s.

    `kind` is that of the placement the search came from; `tried`: cuts that were scheduled.
    """

    kind: str
    cuts: tuple[int, ...]
    devices: tuple[int, ...]
    problem: Problem
    schedule: Schedule
    tried: int


def place(
    layers: Sequence[LayerCost] | Sequence[Sequence[LayerCost]],
    num_devices: int,
    num_microbatches: int,
    *,
    memory: Capacity = None,
    latency: int = 0,
    is_fused: bool = False,
    stages_per_device: int = 2,
    kinds: Sequence[str] = KINDS,
    time_limit_s: float = 30.0,
    workers: int = 2,
    seed: int = 0,
    progress: Callable[[Progress], None] | None = None,
) -> PlacedSchedule:
    """The shortest step found over cuts, devices and orders; each layer is on one device only.

    `layers` are those of the model, or for each device those of the model as they are there.
    `memory` is bytes per device. With `is_fused`, B and W are one work. The schedule's
    bound and gap are those of its own placement: how much another one would save is not known.

    Raises ScheduleError for an unknown kind, fewer layers than devices, or when nothing fits.
    """
    job = _job(layers, num_devices, num_microbatches, memory, latency, is_fused)
    _check(job, kinds, stages_per_device)
    search = _Search(job, time.perf_counter() + SEARCH_SHARE * time_limit_s)
    for kind, cut in _first(job, kinds, stages_per_device):
        search.try_cut(kind, cut)
    if not search.found:
        return _one_by_one(search, job, kinds, stages_per_device, time_limit_s, workers, seed)
    search.climb(kinds, stages_per_device)
    left = max(time_limit_s * (1 - SEARCH_SHARE), 0.5)
    best: PlacedSchedule | None = None
    for found in search.best(FINISHED):
        limit = left / min(FINISHED, len(search.found))
        hints = [found.schedule]
        schedule = solve(
            found.problem,
            time_limit_s=limit,
            workers=workers,
            seed=seed,
            progress=progress,
            hints=hints,
        )
        if best is None or schedule.length < best.schedule.length:
            cut = found.cut
            best = PlacedSchedule(
                found.kind, cut.cuts, cut.devices, found.problem, schedule, search.tried
            )
    assert best is not None
    return best


def _job(
    layers: Sequence[LayerCost] | Sequence[Sequence[LayerCost]],
    num_devices: int,
    num_microbatches: int,
    memory: Capacity,
    latency: int,
    is_fused: bool,
) -> Job:
    """Raises ScheduleError where there are not layers for each device."""
    alike = tuple(layer for layer in layers if isinstance(layer, LayerCost))
    rows = tuple(tuple(row) for row in layers if not isinstance(row, LayerCost))
    if rows and (len(rows) != num_devices or len({len(row) for row in rows}) > 1):
        raise ScheduleError(
            f"layers of {len(rows)} devices for {num_devices}, {sorted({len(r) for r in rows})} "
            "each; give the layers once, or all of them for each device"
        )
    first = rows[0] if rows else alike
    by_device = rows if len(set(rows)) > 1 else ()
    return Job(first, num_devices, num_microbatches, memory, latency, by_device, is_fused)


def _check(job: Job, kinds: Sequence[str], most: int) -> None:
    unknown = [k for k in kinds if k not in KINDS]
    if unknown or not kinds:
        what = repr(unknown[0]) if unknown else "none"
        raise ScheduleError(f"kind of placement {what}: expected some of {', '.join(KINDS)}")
    if most < 1 or (most < 2 and not {"linear", "free"} & set(kinds)):
        raise ScheduleError(
            f"stages_per_device {most} leaves no placement of kind {', '.join(kinds)}; use 2 "
            "or more"
        )
    if len(job.layers) < job.num_devices:
        raise ScheduleError(
            f"{len(job.layers)} layers cannot fill {job.num_devices} devices; use at most "
            f"{len(job.layers)} devices, or finer layers"
        )
    capacities = job.capacities()
    if capacities is not None and len(capacities) != job.num_devices:
        raise ScheduleError(
            f"memory of {len(capacities)} devices for {job.num_devices}; give one number, or one "
            "per device"
        )


def _first(job: Job, kinds: Sequence[str], most: int) -> Iterator[tuple[str, Cut]]:
    """Each kind's maps, cut evenly and balanced."""
    down = tuple(range(job.num_devices))
    maps: list[tuple[str, tuple[int, ...]]] = []
    if "linear" in kinds or "free" in kinds:
        maps.append(("linear" if "linear" in kinds else "free", down))
    if most > 1 and ("v" in kinds or "free" in kinds):
        maps.append(("v" if "v" in kinds else "free", down + down[::-1]))
    if "looped" in kinds:
        maps += [("looped", down * chunks) for chunks in range(2, most + 1)]
    for kind, devices in maps:
        if len(devices) <= len(job.layers):
            for cuts in (
                even_cuts(len(job.layers), len(devices)),
                balanced([job.on(d) for d in devices]),
            ):
                yield kind, Cut(cuts, devices)


def _one_by_one(
    search: _Search,
    job: Job,
    kinds: Sequence[str],
    most: int,
    time_limit_s: float,
    workers: int,
    seed: int,
) -> PlacedSchedule:
    """Where no list schedule fits the memory: CP-SAT on each first cut; raises its last error."""
    cuts = list(dict.fromkeys(_first(job, kinds, most)))
    error: DoesNotFitError | None = None
    for kind, cut in cuts:
        problem = problem_of(job, cut)
        try:
            schedule = solve(
                problem, time_limit_s=time_limit_s / len(cuts), workers=workers, seed=seed
            )
        except DoesNotFitError as caught:
            error = caught
        else:
            return PlacedSchedule(kind, cut.cuts, cut.devices, problem, schedule, search.tried)
    raise DoesNotFitError(f"no placement of kind {', '.join(kinds)} fits: {error}") from error


@dataclass(frozen=True, slots=True)
class _Found:
    kind: str
    cut: Cut
    problem: Problem
    schedule: Schedule


@dataclass
class _Search:
    """Cuts that were tried, and the schedules of those that fit."""

    job: Job
    until: float
    tried: int = 0
    seen: set[Cut] = field(default_factory=set)
    found: list[_Found] = field(default_factory=list)

    def best(self, count: int) -> list[_Found]:
        """The shortest, best first."""
        return sorted(self.found, key=lambda f: (f.schedule.length, f.cut.devices))[:count]

    def try_cut(self, kind: str, cut: Cut, below: int | None = None) -> _Found | None:
        """A quick schedule of a cut; None when it does not fit, or cannot come `below`."""
        if cut in self.seen:
            return None
        self.seen.add(cut)
        if below is not None and self.least(cut) >= below:
            return None
        problem = problem_of(self.job, cut)
        if cannot_fit(problem):
            return None
        limits = limits_of(problem)
        bound = bound_by(problem, limits)
        if below is not None and bound >= below:
            return None
        self.tried += 1
        schedule = swing(problem, limits, "makespan", bound, is_quick=True)
        if schedule is None or schedule.length > bound:
            schedule = _shorter(schedule, _greedy(problem, bound))
        if schedule is None:
            return None
        self.found.append(_Found(kind, cut, problem, schedule))
        return self.found[-1]

    def least(self, cut: Cut) -> int:
        """Ticks that a cut needs at least: the fullest device's work, after its first forward."""
        begin: dict[int, int] = {}
        before = 0
        for device, stage in zip(cut.devices, self.job.stages(cut)):
            begin.setdefault(device, before)
            before += sum(layer.forward for layer in stage)
        loads = self.job.loads(cut)
        return max(begin[d] + self.job.num_microbatches * loads[d] for d in begin)

    def climb(self, kinds: Sequence[str], most: int) -> None:
        """From each kind's best cut: take the first move that helps until none does or time ends.

        Kinds take turns, so that a short time is shared.
        """
        tops = {kind: f for f in reversed(self.best(len(self.found))) for kind in [f.kind]}
        if "free" in kinds:
            tops["free"] = self.best(1)[0]
        while tops and time.perf_counter() < self.until:
            for kind, top in list(tops.items()):
                better = self._better(kind, top, most)
                if better is None:
                    del tops[kind]
                else:
                    tops[kind] = better
                    free = tops.get("free")
                    if free and better.schedule.length < free.schedule.length:
                        tops["free"] = better

    def _better(self, kind: str, top: _Found, most: int) -> _Found | None:
        size = top.schedule.length
        for cut in moves(self.job, top.cut, most, is_free=kind == "free"):
            if time.perf_counter() > self.until:
                return None
            found = self.try_cut(kind, cut, below=size + 1)
            if found is not None and _worth(self.job, found) < _worth(self.job, top):
                return found
        return None


def _worth(job: Job, found: _Found) -> tuple[int, list[int]]:
    """Shorter is better, then a better balance: it takes two moves to unload two full devices."""
    return found.schedule.length, sorted(job.loads(found.cut), reverse=True)


def _greedy(problem: Problem, bound: int) -> Schedule | None:
    best: Schedule | None = None
    for rule in (Rule(), Rule(least=2), Rule(ahead=None)):
        start = greedy(problem, rule)
        if start is not None and fits(problem, start):
            made = Schedule(start, length(problem, start), bound, "heuristic", "greedy")
            best = _shorter(best, made)
    return best


def _shorter(one: Schedule | None, other: Schedule | None) -> Schedule | None:
    if one is None or other is None:
        return one or other
    return min(one, other, key=lambda s: s.length)

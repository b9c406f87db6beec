"""Layers: what a model's layers cost, and stages cut out of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from superscaler.errors import ScheduleError
from superscaler.schedule.pipeline import Capacity, Placement, StageCosts, pipeline_problem
from superscaler.schedule.problem import Problem


@dataclass(frozen=True, slots=True)
class LayerCost:
    """One layer and one microbatch: ticks of F, B and W; bytes that F leaves until the backward,
    of these the bytes that W reads; bytes that are always there (parameters, their states)."""

    forward: int
    backward: int
    weight: int
    activation: int = 0
    kept: int = 0
    resident: int = 0

    @property
    def ticks(self) -> int:
        """All that a device does for this layer and one microbatch."""
        return self.forward + self.backward + self.weight


@dataclass(frozen=True, slots=True)
class Cut:
    """Stages and where they run: stage s begins with layer `cuts[s]`, and runs on `devices[s]`."""

    cuts: tuple[int, ...]
    devices: tuple[int, ...]

    def sizes(self, num_layers: int) -> tuple[int, ...]:
        """Layers of each stage."""
        return tuple(b - a for a, b in zip(self.cuts, (*self.cuts[1:], num_layers)))


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be placed: layers on devices, `memory` bytes on each (None: as much as it
    takes), `latency` ticks between devices. `by_device`: the layers' costs on each device, where
    these are not alike. `is_fused`: B and W are one work."""

    layers: tuple[LayerCost, ...]
    num_devices: int
    num_microbatches: int
    memory: Capacity = None
    latency: int = 0
    by_device: tuple[tuple[LayerCost, ...], ...] = ()
    is_fused: bool = False

    def on(self, device: int) -> tuple[LayerCost, ...]:
        """The layers as they are on a device."""
        return self.by_device[device] if self.by_device else self.layers

    def stages(self, cut: Cut) -> list[tuple[LayerCost, ...]]:
        """The layers of each stage, on its device."""
        ends = (*cut.cuts[1:], len(self.layers))
        return [self.on(d)[a:b] for d, a, b in zip(cut.devices, cut.cuts, ends)]

    def capacities(self) -> tuple[int, ...] | None:
        """Bytes per device."""
        if isinstance(self.memory, int):
            return (self.memory,) * self.num_devices
        return self.memory

    def loads(self, cut: Cut) -> list[int]:
        """Ticks per device for one microbatch."""
        loads = [0] * self.num_devices
        for device, stage in zip(cut.devices, self.stages(cut)):
            loads[device] += sum(layer.ticks for layer in stage)
        return loads


def problem_of(job: Job, cut: Cut) -> Problem:
    """The scheduling problem that a cut poses.

    Raises ScheduleError when a stage is empty, or the memory has no entry per device.
    """
    if min(cut.sizes(len(job.layers))) < 1 or cut.cuts[0] != 0:
        raise ScheduleError(
            f"cuts {list(cut.cuts)} of {len(job.layers)} layers: a stage is empty; give each "
            "stage's first layer, ascending from 0"
        )
    stages = job.stages(cut)
    rows = (
        tuple(
            sum(row)
            for row in zip(
                *((a.forward, a.backward, a.weight, a.activation, a.kept) for a in stage)
            )
        )
        for stage in stages
    )
    forward, backward, weight, activation, kept = zip(*rows)
    costs = StageCosts(forward, backward, weight, activation, kept, job.latency)
    placement = Placement.of_stages(cut.devices, job.num_microbatches)
    problem = pipeline_problem(
        costs, placement, capacity=_used(job, placement), is_fused=job.is_fused
    )
    resident = [0] * placement.num_devices
    for device, stage in zip(cut.devices, stages):
        resident[device] += sum(layer.resident for layer in stage)
    memories = tuple(
        replace(m, resident=r, capacity=m.capacity + (r if job.memory is None else 0))
        for m, r in zip(problem.memories, resident)
    )
    return replace(problem, memories=memories)


def _used(job: Job, placement: Placement) -> Capacity:
    """Bytes of the devices that the placement knows: the last ones may be left out."""
    capacities = job.capacities()
    return capacities if capacities is None else capacities[: placement.num_devices]


def even_cuts(num_layers: int, num_stages: int) -> tuple[int, ...]:
    """As many layers in each stage, the first stages one more where they do not divide.

    >>> even_cuts(10, 4)
    (0, 3, 6, 8)
    """
    size, more = divmod(num_layers, num_stages)
    return tuple(s * size + min(s, more) for s in range(num_stages))


def balanced_cuts(layers: Sequence[LayerCost], num_stages: int) -> tuple[int, ...]:
    """Cuts whose longest stage is as short as can be, by dynamic programming over prefixes."""
    return balanced([layers] * num_stages)


def balanced(rows: Sequence[Sequence[LayerCost]]) -> tuple[int, ...]:
    """The same for stages on devices that differ: `rows` has, per stage, all layers there."""
    count = len(rows[0])
    first, *others = ([0, *accumulate(layer.ticks for layer in row)] for row in rows)
    best: list[tuple[int, tuple[int, ...]]] = [(ticks, (0,)) for ticks in first]
    for stage, sums in enumerate(others, 1):
        best = [
            min(
                (
                    (max(best[at][0], sums[end] - sums[at]), (*best[at][1], at))
                    for at in range(stage, end)
                ),
                default=(1 << 60, ()),
            )
            for end in range(count + 1)
        ]
    return best[count][1]

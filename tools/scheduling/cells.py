"""Cells: the pipelines of the scheduler's benchmark, by devices, microbatches, costs and memory.

A device has two chunks of layers: one stage of a linear pipeline, or two stages of a V or looped
one. So the work of a device, and the activations of a microbatch on it, are the same in all three.
"""

from __future__ import annotations

from dataclasses import dataclass

from superscaler.schedule.pipeline import Placement, StageCosts, pipeline_problem
from superscaler.schedule.problem import Problem

CHUNK = (20, 22, 16)  # ticks of F, B and W of a chunk of layers: as 1, 1.1, 0.8
LATENCY = 2  # 0.05 of a device's forward
PROFILES = ("uniform", "gpt", "heavy", "communication")
MEMORIES = (0.5, 0.75, 1.0, 2.0)
# What the embedding and the head add to the first and the last chunk, as shares of a device's work.
EXTRA = {"gpt": (0.05, 0.3), "heavy": (1.0, 1.0)}


@dataclass(frozen=True)
class Cell:
    """One pipeline; `memory` is the capacity, in activations of a whole device, per device."""

    devices: int
    microbatches: int
    profile: str
    memory: float

    @property
    def name(self) -> str:
        return f"{self.devices} x {self.microbatches} {self.profile} {self.memory}x"

    def problem(self, form: str) -> Problem:
        """The cell's problem in a form of placement: linear, v, looped or bidirectional."""
        stages = 2 * self.devices if form in ("v", "looped") else self.devices
        placement = getattr(Placement, form)(self.devices, self.microbatches)
        latency = 10 * LATENCY if self.profile == "communication" else LATENCY
        rows = [self._ticks(s, stages) for s in range(stages)]
        held = (2 * self.devices // stages,) * stages
        columns = [tuple(row[k] for row in rows) for k in range(3)]
        costs = StageCosts(*columns, activation=held, kept=held, latency=latency)
        return pipeline_problem(costs, placement, capacity=int(2 * self.devices * self.memory))

    def _ticks(self, stage: int, stages: int) -> list[int]:
        """F, B and W of a stage: its chunks, and what the ends of the model add."""
        first, last = EXTRA.get(self.profile, (0.0, 0.0))
        extra = 2 * (first * (stage == 0) + last * (stage == stages - 1))
        return [round(ticks * (2 * self.devices / stages + extra)) for ticks in CHUNK]


def cells(devices: tuple[int, ...] = (4, 8, 16)) -> list[Cell]:
    """Every cell of the benchmark."""
    return [
        Cell(d, m * d, profile, memory)
        for d in devices
        for m in (1, 2, 4)
        for profile in PROFILES
        for memory in MEMORIES
    ]

"""Real steps: what programs take on Gloo processes of this machine, beside what was predicted."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch._C._distributed_c10d import FileStore

from superscaler.cluster.operators import OperatorWork
from superscaler.cluster.profile import OperatorTime
from superscaler.measure.rank import RankMeter
from superscaler.runtime.executor import RankExecutor
from superscaler.runtime.initialize import materialize_weights
from superscaler.runtime.memory import MemoryMeter
from superscaler.runtime.processes import ProcessCommunicator, destroy_groups
from superscaler.runtime.program import load_rank
from superscaler.workload import Workload, cast, load_workload

STEPS_PER_ROUND = 3
CORES = os.cpu_count() or 1


@dataclass(frozen=True)
class Job:
    """A program's files, and the workload they are of (`FILE.py:callable`, its settings, and the
    dtype that it is cast to).

    `measured` are the ranks whose kernels are timed, one of each class.
    """

    workload: str
    files: dict[str, str] = field(repr=False)
    measured: tuple[int, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    dtype: torch.dtype | None = None


@dataclass(frozen=True)
class RealSteps:
    """Step times in us (of the slowest rank; STEPS_PER_ROUND of each round), peak bytes by rank,
    and the kernels' own times."""

    steps_us: tuple[float, ...]
    peak_bytes: tuple[int, ...]
    operators: tuple[OperatorTime, ...]

    @property
    def step_us(self) -> float:
        """The median step."""
        return statistics.median(self.steps_us)

    @property
    def rounds_us(self) -> tuple[float, ...]:
        """The median step of each round."""
        starts = range(0, len(self.steps_us), STEPS_PER_ROUND)
        return tuple(statistics.median(self.steps_us[i : i + STEPS_PER_ROUND]) for i in starts)


@dataclass(frozen=True)
class _RankResult:
    steps_us: list[float]
    peak_bytes: int
    operators: tuple[OperatorTime, ...]


def run_real_steps(jobs: Sequence[Job], world_size: int, rounds: int) -> list[RealSteps]:
    """Run each job on `world_size` Gloo processes of one thread each.

    Each round measures all jobs, first kernels and then whole steps, so that what else the machine
    does slows down all alike; bytes are counted in a step of their own.
    """
    with tempfile.TemporaryDirectory(prefix="superscaler-steps-") as folder:
        work = (world_size, folder, list(jobs), rounds)
        mp.spawn(_run_rank, work, nprocs=world_size)  # type: ignore[attr-defined, no-untyped-call]
        ranks = [torch.load(f"{folder}/{r}.out", weights_only=False) for r in range(world_size)]
    return [_joined([rank[place] for rank in ranks]) for place in range(len(jobs))]


def _joined(found: list[_RankResult]) -> RealSteps:
    steps = tuple(max(us) for us in zip(*(f.steps_us for f in found), strict=True))
    by_work: dict[OperatorWork, list[float]] = {}
    for entry in (entry for f in found for entry in f.operators):
        by_work.setdefault(entry.work, []).append(entry.us)
    operators = tuple(OperatorTime(work, statistics.mean(us)) for work, us in by_work.items())
    return RealSteps(steps, tuple(f.peak_bytes for f in found), operators)


def _run_rank(rank: int, size: int, folder: str, jobs: list[Job], rounds: int) -> None:
    torch.set_num_threads(1)
    store = FileStore(f"{folder}/store", size)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=size)
    running = [_Running(job, rank, size) for job in jobs]
    for _ in range(rounds):
        for job in running:
            job.round()
    torch.save([job.result() for job in running], f"{folder}/{rank}.out")
    del running
    destroy_groups()


class _Running:
    """A job's rank: its program, beside one that runs alone."""

    def __init__(self, job: Job, rank: int, size: int) -> None:
        work = load_workload(job.workload, job.settings)
        work = work if job.dtype is None else cast(work, job.dtype)
        state = _state(work)
        self._batch = work.batch
        program = load_rank(job.files, rank)
        self._communicator = ProcessCommunicator(program.manifest.get("groups", ()))
        self._executor = RankExecutor(program, self._communicator, optimizer=work.optimizer)
        self._executor.load_weights(state)
        self._is_timed = rank in job.measured or size <= CORES
        self._alone = RankMeter(job.files, rank, state, work.optimizer)
        self._executor.step(self._batch)
        self._steps_us: list[float] = []

    def round(self) -> None:
        """Times the kernels, then whole steps."""
        dist.barrier()
        if self._is_timed:
            self._alone.step(self._batch)
        for _ in range(STEPS_PER_ROUND):
            dist.barrier()
            begun = time.perf_counter()
            self._executor.step(self._batch)
            self._steps_us.append((time.perf_counter() - begun) * 1e6)

    def result(self) -> _RankResult:
        """What was found, with the bytes of one more step."""
        meter = MemoryMeter(self._executor)
        meter.step(self._batch)
        self._communicator.close()
        return _RankResult(self._steps_us, meter.peak_bytes, self._alone.operators)


def _state(work: Workload) -> dict[str, torch.Tensor]:
    model = materialize_weights(work.model)
    named = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: value.detach() for name, value in named.items()}

"""Measure a rank: the kernels of an emitted program, timed where they run, without its peers."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch

from superscaler.cluster.operators import OperatorWork
from superscaler.cluster.profile import OperatorTime
from superscaler.measure.timer import Timer
from superscaler.runtime.communicator import Communicator, Ranks, Receives, Sends
from superscaler.runtime.executor import OptimizerFactory, RankExecutor
from superscaler.runtime.pending import Pending
from superscaler.runtime.program import Source, load_rank
from superscaler.simulate.recording.work import is_view, view_work, work_of


class RankMeter:
    """Runs a rank's step alone and times every kernel, on its local shapes.

    What others would send is zeros, and what the rank would get of sums is its own part, so the
    numbers mean nothing; the times do. What passes between kernels (the program's own Python) is
    counted as theirs, the same for each.
    """

    def __init__(
        self,
        source: Source,
        rank: int,
        weights: Mapping[str, torch.Tensor] | Iterable[tuple[str, Any]],
        optimizer: OptimizerFactory,
    ) -> None:
        program = load_rank(source, rank)
        communicator = _Alone(rank, program.world_size)
        self._executor = RankExecutor(program, communicator, optimizer=optimizer)
        self._executor.load_weights(weights)
        self._steps: list[dict[OperatorWork, list[float]]] = []
        self._whole_us: list[float] = []

    def step(self, batch: Any) -> None:
        """Run a step as it is and one whose kernels are timed, after one that makes the optimizer's
        states."""
        if self._executor.step_number == 0:
            self._executor.step(batch)
        begun = time.perf_counter()
        self._executor.step(batch)
        self._whole_us.append((time.perf_counter() - begun) * 1e6)
        with _Once() as timer:
            self._executor.step(batch)
        self._steps.append(timer.times)

    @property
    def operators(self) -> tuple[OperatorTime, ...]:
        """The time of every kernel so far."""
        return kernel_times(self._steps, self._whole_us)


def kernel_times(
    steps: Sequence[Mapping[OperatorWork, list[float]]], whole_us: Sequence[float]
) -> tuple[OperatorTime, ...]:
    """The mean time of every kernel in a step, the median of `steps`, each with its part of what
    steps took (`whole_us`, without being timed) longer than their kernels."""
    works = dict.fromkeys(work for step in steps for work in step)
    counts = [sum(len(times) for times in step.values()) for step in steps]
    kernels_us = [sum(us for times in step.values() for us in times) for step in steps]
    if not any(counts):
        return ()
    longer = statistics.median(whole_us) - statistics.median(kernels_us)
    between = max(0.0, longer) / statistics.median(counts)
    found = []
    for work in works:
        means = [statistics.mean(step[work]) for step in steps if work in step]
        found.append(OperatorTime(work, round(statistics.median(means) + between, 3)))
    return tuple(found)


class _Once(Timer):  # type: ignore[no-untyped-call]
    """Times every kernel once whenever it runs."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        begun = time.perf_counter()
        result = func(*args, **kwargs)
        us = (time.perf_counter() - begun) * 1e6
        work = work_of(func, args, kwargs, result)
        if work is None and is_view(func):
            work = view_work(func)
        if work is not None:
            self.times.setdefault(work, []).append(us)
        return result


class _Alone(Communicator):
    """What a rank sees of a world in which nobody answers."""

    def __init__(self, rank: int, world_size: int) -> None:
        self.rank, self.world_size = rank, world_size

    def all_reduce(self, buffer: torch.Tensor, ranks: Ranks, op: str) -> Pending:
        return _there(lambda: buffer)

    def all_gather(self, part: torch.Tensor, ranks: Ranks) -> Pending:
        return _there(lambda: part.expand(len(ranks), *part.shape))

    def reduce_scatter(self, parts: torch.Tensor, ranks: Ranks, op: str) -> Pending:
        return _there(lambda: parts[ranks.index(self.rank)])

    def all_to_all(self, parts: torch.Tensor, ranks: Ranks) -> Pending:
        return _there(lambda: parts)

    def broadcast(self, buffer: torch.Tensor, ranks: Ranks, root: int) -> Pending:
        return _there(lambda: buffer)

    def transfer(self, sends: Sends, receives: Receives) -> Pending:
        return _there(lambda: [buffer.zero_() for buffer, _ in receives])

    def finish_sends(self) -> None:
        """Nothing is under way."""

    def close(self) -> None:
        """Nothing to give back."""


def _there(value: Callable[[], Any]) -> Pending:
    return Pending(value)

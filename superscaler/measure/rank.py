"""Measure a rank: the kernels of an emitted program, timed where they run, without its peers."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch

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
    numbers mean nothing; the times do.
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
        self._timer = _Once()

    def step(self, batch: Any) -> None:
        """Run a step; the first one, which makes the optimizer's states, is not timed."""
        if self._executor.step_number == 0:
            self._executor.step(batch)
        with self._timer:
            self._executor.step(batch)

    @property
    def operators(self) -> tuple[OperatorTime, ...]:
        """The mean time of every kernel so far."""
        return self._timer.operators(statistics.mean)


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

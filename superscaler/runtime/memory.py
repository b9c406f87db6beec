"""MemoryMeter: the most bytes of tensors that were alive on a rank during a step."""

from __future__ import annotations

from collections import deque
from typing import Any

import torch

from superscaler.runtime.executor import RankExecutor
from superscaler.runtime.storages import StorageTracker


class MemoryMeter:
    """Runs an executor's steps; `peak_bytes` is the most that one of them needed so far.

    On a GPU it is `torch.cuda.max_memory_allocated`. On a CPU every tensor's storage counts from
    when it is made until its last tensor is gone: parameters, optimizer states, buffers, the leaves
    of the batch that the rank reads, and all values; not what kernels use inside. Counting makes a
    step on a CPU several times slower.
    """

    def __init__(self, executor: RankExecutor) -> None:
        self.peak_bytes = 0
        self._executor = executor

    def step(self, batch: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """`executor.step(batch)`, measured."""
        device = self._executor.device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            result = self._executor.step(batch)
            torch.cuda.synchronize(device)
            self.peak_bytes = max(self.peak_bytes, torch.cuda.max_memory_allocated(device))
            return result
        with _Counter() as counter:
            counter.see(_resting(self._executor))
            result = self._executor.step(batch)
        self.peak_bytes = max(self.peak_bytes, counter.peak_bytes)
        return result


def _resting(executor: RankExecutor) -> list[Any]:
    """What the rank holds between steps."""
    states = executor.optimizer.state.values() if executor.optimizer is not None else ()
    resting = [value for state in states for value in state.values()]
    return [*executor.parameters.values(), *executor.buffers.values(), *resting]


class _Counter(StorageTracker):  # type: ignore[no-untyped-call]
    """Bytes alive, and the most there were."""

    def __init__(self) -> None:
        super().__init__()
        self.peak_bytes = 0
        self._alive: dict[int, int] = {}
        self._num_bytes = 0
        self._gone: deque[int] = deque()  # other threads append to it: taken in by this one

    def came(self, number: int, num_bytes: int) -> None:
        while self._gone:
            self._num_bytes -= self._alive.pop(self._gone.popleft())
        self._alive[number] = num_bytes
        self._num_bytes += num_bytes
        self.peak_bytes = max(self.peak_bytes, self._num_bytes)

    def went(self, number: int) -> None:
        self._gone.append(number)

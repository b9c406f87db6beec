"""MemoryMeter: the most bytes of tensors that were alive on a rank during a step."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import torch

from superscaler.runtime.executor import RankExecutor
from superscaler.runtime.storages import StorageTracker


class MemoryMeter:
    """Runs an executor's steps; `peak_bytes` is the most that one of them needed so far, in host
    memory `host_peak_bytes`.

    On a GPU it is `torch.cuda.max_memory_allocated`. On a CPU every tensor's storage counts from
    when it is made until its last tensor is gone: parameters, optimizer states, buffers, the leaves
    of the batch that the rank reads, and all values; not what kernels use inside. Counting makes a
    step on a CPU several times slower.
    """

    def __init__(self, executor: RankExecutor) -> None:
        self.peak_bytes = 0
        self.host_peak_bytes = 0
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
            counter.see(self._executor.host_values(), in_host=True)
            counter.see(self._executor.host_leaves(batch), in_host=True)
            counter.see(_resting(self._executor))
            result = self._executor.step(batch)
        self.peak_bytes = max(self.peak_bytes, counter.device.peak)
        self.host_peak_bytes = max(self.host_peak_bytes, counter.host.peak)
        return result


def _resting(executor: RankExecutor) -> list[Any]:
    """What the rank holds between steps."""
    states = executor.optimizer.state.values() if executor.optimizer is not None else ()
    resting = [value for state in states for value in state.values()]
    return [*executor.parameters.values(), *executor.buffers.values(), *resting]


@dataclass
class _Level:
    """Bytes alive in one memory, and the most there were."""

    now: int = 0
    peak: int = 0

    def change(self, num_bytes: int) -> None:
        self.now += num_bytes
        self.peak = max(self.peak, self.now)


class _Counter(StorageTracker):  # type: ignore[no-untyped-call]
    """The levels of device and host memory."""

    def __init__(self) -> None:
        super().__init__()
        self.device, self.host = _Level(), _Level()
        self._alive: dict[int, tuple[_Level, int]] = {}
        self._gone: deque[int] = deque()  # other threads append to it: taken in by this one

    def came(self, number: int, num_bytes: int) -> None:
        self._take(self.device, number, num_bytes)

    def came_to_host(self, number: int, num_bytes: int) -> None:
        self._take(self.host, number, num_bytes)

    def _take(self, level: _Level, number: int, num_bytes: int) -> None:
        while self._gone:
            old, size = self._alive.pop(self._gone.popleft())
            old.change(-size)
        self._alive[number] = (level, num_bytes)
        level.change(num_bytes)

    def went(self, number: int) -> None:
        self._gone.append(number)

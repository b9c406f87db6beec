"""Counting the bytes of tensors alive."""

from __future__ import annotations

import pytest
import torch
from emitted import linear_program

from superscaler.runtime import RankExecutor, load_rank
from superscaler.runtime.local import lone_rank
from superscaler.runtime.memory import MemoryMeter
from superscaler.runtime.storages import StorageTracker


class Log(StorageTracker):  # type: ignore[no-untyped-call]
    """Bytes as they come, and a word as they go."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[object] = []

    def came(self, number: int, num_bytes: int) -> None:
        self.seen.append(num_bytes)

    def went(self, number: int) -> None:
        self.seen.append("gone")


def test_a_storage_counts_once_however_many_views_it_has() -> None:
    with Log() as log:
        a = torch.zeros(8)
        b = a[2:].view(3, 2)
        log.see([a, (b,)])
        del a
        assert log.seen == [32]
        del b
    assert log.seen == [32, "gone"]


def test_values_in_place_are_nothing_new() -> None:
    a = torch.zeros(8)
    with Log() as log:
        log.see(a)
        a.add_(1)
        a.t_()
        (a + a).sum()
    assert log.seen[:2] == [32, 32]


def test_the_peak_holds_parameters_states_and_values() -> None:
    program = load_rank(linear_program(1), 0)
    executor = RankExecutor(program, lone_rank(), optimizer=lambda p: torch.optim.AdamW(p))
    executor.load_weights({"w": torch.ones(6, 4, dtype=torch.float64)})
    meter = MemoryMeter(executor)
    batch = torch.ones(8, 6, dtype=torch.float64)
    meter.step(batch)
    first = meter.peak_bytes
    meter.step(batch)
    parameter = 6 * 4 * 8
    assert meter.peak_bytes >= first > parameter + batch.nbytes
    assert meter.peak_bytes >= 3 * parameter + batch.nbytes  # with the optimizer's two states


@pytest.mark.gpu
def test_on_a_gpu_the_allocator_is_asked() -> None:
    program = load_rank(linear_program(1), 0)
    executor = RankExecutor(
        program, lone_rank(), optimizer=lambda p: torch.optim.SGD(p, lr=0.1), device="cuda"
    )
    executor.load_weights({"w": torch.ones(6, 4, dtype=torch.float64)})
    meter = MemoryMeter(executor)
    meter.step(torch.ones(8, 6, dtype=torch.float64))
    assert meter.peak_bytes == torch.cuda.max_memory_allocated()

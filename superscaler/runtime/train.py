"""The training loop of `python -m superscaler.runtime`: batches, progress, checkpoints."""

from __future__ import annotations

import json
import time
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from superscaler.runtime.checkpoint import latest_checkpoint, load_checkpoint, save_checkpoint
from superscaler.runtime.executor import RankExecutor
from superscaler.runtime.failures import BatchError
from superscaler.runtime.memory import MemoryMeter
from superscaler.user_code import UserCode
from superscaler.workload import Workload, is_iterable

_END = object()


class Trainer:
    """Trains to `options.steps`; only rank 0 prints."""

    def __init__(self, executor: RankExecutor, workload: Workload, options: Namespace) -> None:
        self._executor = executor
        self._workload = workload
        self._options = options
        self._prints = executor.communicator.rank == 0
        self._size = _batch_size(workload.batch)
        self._meter = MemoryMeter(executor) if options.memory else None

    def resume(self) -> bool:
        """Load the latest checkpoint, if there is one and it was asked for."""
        options = self._options
        path = latest_checkpoint(options.checkpoint) if options.resume else None
        if path is None:
            return False
        load_checkpoint(self._executor, path)
        self._say(f"resumed from {path}, step {self._executor.step_number}")
        return True

    def run(self) -> None:
        """Train from the executor's step on."""
        options, first = self._options, self._executor.step_number
        for number, batch in zip(range(options.steps), batches(self._workload), strict=False):
            if number >= first:  # a resumed run goes on where the data was
                self._step(batch)
                if options.save_every and (number + 1) % options.save_every == 0:
                    self._save()
        if options.checkpoint and not _is_saved(options, self._executor.step_number, first):
            self._save()
        if self._meter is not None:
            rank, size = self._executor.communicator.rank, self._meter.peak_bytes
            text = f"rank {rank}: peak memory {size} bytes ({size / 2**20:,.1f} MiB)"
            if in_host := self._meter.host_peak_bytes:
                text += f", host memory {in_host} bytes ({in_host / 2**20:,.1f} MiB)"
            print(text, flush=True)

    def _step(self, batch: Any) -> None:
        executor = self._executor
        start = time.perf_counter()
        loss, metrics = (self._meter or executor).step(batch)
        record = {"step": executor.step_number, "loss": float(loss)}
        record |= {name: _number(value) for name, value in metrics.items()}
        if executor.grad_norm is not None:
            record["grad_norm"] = float(executor.grad_norm)
        record["seconds"] = time.perf_counter() - start
        self._log(record)
        if executor.step_number % self._options.log_every == 0:
            self._say(_line(record, self._size))

    def _log(self, record: dict[str, Any]) -> None:
        if self._prints and self._options.json_log:
            with open(self._options.json_log, "a") as file:
                print(json.dumps(record), file=file)

    def _save(self) -> None:
        path = self._options.checkpoint / f"step-{self._executor.step_number}"
        save_checkpoint(self._executor, path)
        self._say(f"saved {path}")

    def _say(self, text: str) -> None:
        if self._prints:
            print(text, flush=True)


def batches(workload: Workload) -> Iterator[Any]:
    """The workload's data, again and again; its one batch if it has no data.

    Raises BatchError where data() raises, or gives no batch.
    """
    is_empty = False
    while not is_empty:
        is_empty = True
        for batch in [workload.batch] if workload.data is None else _given(workload.data):
            is_empty = False
            yield batch
    raise BatchError("the workload's data() gave no batch; give at least one")


def _given(data: Callable[[], Iterable[Any]]) -> Iterator[Any]:
    """The batches of one round."""
    blame = UserCode("the workload's data() raised", kind=BatchError)
    with blame:
        found = data()
    if not is_iterable(found):
        raise BatchError(
            f"the workload's data() gave {found!r}; give an iterable of batches, or yield them"
        )
    with blame:
        rest = iter(found)
    while True:
        with blame:
            batch = next(rest, _END)
        if batch is _END:
            return
        yield batch


def _line(record: dict[str, Any], size: tuple[int, str]) -> str:
    values = dict(record)
    step, seconds = values.pop("step"), values.pop("seconds")
    shown = "  ".join(f"{name} {_show(value)}" for name, value in values.items())
    count, unit = size
    return f"step {step:>5}  {shown}  {seconds * 1e3:,.1f} ms  {count / seconds:,.0f} {unit}/s"


def _show(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _number(value: torch.Tensor) -> Any:
    return value.item() if value.numel() == 1 else value.tolist()


def _batch_size(batch: Any) -> tuple[int, str]:
    """What a batch is counted in: tokens where it has (samples, positions) of integers."""
    leaves = [leaf for leaf in tree_leaves(batch) if isinstance(leaf, torch.Tensor) and leaf.dim()]
    for leaf in leaves:
        if leaf.dim() == 2 and not leaf.is_floating_point():
            return leaf.numel(), "tokens"
    return (leaves[0].shape[0], "samples") if leaves else (1, "batches")


def _is_saved(options: Namespace, step: int, first: int) -> bool:
    return step == first or (options.save_every and step % options.save_every == 0)

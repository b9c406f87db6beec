"""The ranks of a program, trained as the reference was, and what each is left with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from superscaler.runtime import Communicator, RankExecutor, RankProgram, run_ranks_in_threads
from superscaler.runtime.executor import OptimizerFactory
from superscaler.runtime.program import Placed, Source, load_ranks
from superscaler.runtime.shards import Box, Slots
from superscaler.verify.expected import Expected
from superscaler.verify.rounding import drop_rounding


@dataclass(frozen=True)
class Part:
    """A rank's part of a gradient, parameter, buffer or optimizer state."""

    kind: str
    name: str
    slots: Slots
    box: Box
    value: Tensor


@dataclass(frozen=True)
class RankResult:
    """Per step the loss and the metrics; after the last step the rest."""

    losses: list[Tensor]
    metrics: list[dict[str, Tensor]]
    grad_norm: Tensor | None
    parts: list[Part]


def train_in_threads(
    source: Source,
    expected: Expected,
    optimizer: OptimizerFactory,
    timeout: float,
    torch_compile: bool = False,
) -> list[RankResult]:
    """Every rank on a thread of this process.

    Raises what a rank raises, and CommunicationError for a deadlock, saying who waits for what.
    """
    programs = load_ranks(source, torch_compile)

    def run(rank: int, communicator: Communicator) -> RankResult:
        return train_rank(programs[rank], communicator, expected, optimizer)

    return run_ranks_in_threads(len(programs), run, timeout)


def train_rank(
    program: RankProgram,
    communicator: Communicator,
    expected: Expected,
    optimizer: OptimizerFactory,
) -> RankResult:
    """Train one rank from the reference's weights on the reference's batches."""
    executor: RankExecutor

    def make_optimizer(parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
        made = optimizer(parameters)
        drop_rounding(made, lambda: expected.thresholds[executor.step_number])
        return made

    executor = RankExecutor(
        program,
        communicator,
        optimizer=make_optimizer,
        seed=expected.seed,
        record_gradients=True,
    )
    executor.load_weights(expected.initial)
    results = [executor.step(batch) for batch in expected.batches]
    return RankResult(
        losses=[loss for loss, _ in results],
        metrics=[metrics for _, metrics in results],
        grad_norm=executor.grad_norm,
        parts=list(_parts(executor)),
    )


def _parts(executor: RankExecutor) -> Iterator[Part]:
    for placed in executor.program.parameters:
        value = executor.parameters[placed.key]
        yield _part("parameter", placed, value.detach())
        if placed.key in executor.gradients:
            yield _part("gradient", placed, executor.gradients[placed.key])
        if placed.trained:
            yield from _states(executor, placed, value)
    for placed in executor.program.buffers:
        yield _part("buffer", placed, executor.buffers[placed.key])


def _states(
    executor: RankExecutor, placed: Placed, parameter: torch.nn.Parameter
) -> Iterable[Part]:
    states: dict[str, Any] = {}
    if executor.optimizer is not None:
        states = executor.optimizer.state.get(parameter, {})
    for key, value in states.items():
        is_elementwise = isinstance(value, Tensor) and value.shape == parameter.shape
        if is_elementwise and key != "step":
            yield Part("state", f"{placed.name}.{key}", placed.slots, placed.box, value)


def _part(kind: str, placed: Placed, value: Tensor) -> Part:
    return Part(kind, placed.name, placed.slots, placed.box, value)

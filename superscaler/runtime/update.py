"""Update: the optimizer's step, of parameters and states that may rest in host memory.

What rests there is brought to the device for its update and copied back, a bucket of parameters at
a time: while one is updated the next comes and the last one goes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from superscaler.runtime.copies import Copies
from superscaler.runtime.pending import resolve

BUCKET_BYTES = 32 << 20  # of parameters and states on the device


@dataclass(frozen=True, eq=False)
class Member:
    """A parameter, its gradient, and whether it and its states rest in host memory."""

    parameter: torch.nn.Parameter
    gradient: torch.Tensor
    in_host: bool = False
    states_in_host: bool = False


def update(optimizer: torch.optim.Optimizer, members: Sequence[Member], copies: Copies) -> None:
    """One step of the optimizer on these parameters."""
    at_home = [m for m in members if not (m.in_host or m.states_in_host)]
    if at_home:
        _step(optimizer, at_home)
    away = [m for m in members if m.in_host or m.states_in_host]
    if away:
        _update_visitors(optimizer, away, copies)


def shaped_states(
    optimizer: torch.optim.Optimizer, parameter: torch.nn.Parameter
) -> dict[str, torch.Tensor]:
    """The states of the parameter's shape; single numbers stay on the CPU anyway."""
    return {
        key: value
        for key, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, torch.Tensor) and value.dim() and value.shape == parameter.shape
    }


def _step(optimizer: torch.optim.Optimizer, members: Iterable[Member]) -> None:
    for member in members:
        member.parameter.grad = member.gradient
    optimizer.step()
    for member in members:
        member.parameter.grad = None


def _update_visitors(
    optimizer: torch.optim.Optimizer, members: Sequence[Member], copies: Copies
) -> None:
    visits = [_Visit(optimizer, bucket, copies) for bucket in _buckets(optimizer, members)]
    visits[0].come()
    for number, visit in enumerate(visits):
        if number + 1 < len(visits):
            visits[number + 1].come()
        visit.arrive()
        _step(optimizer, visit.members)
        if number:
            visits[number - 1].end()
        visit.go()
    visits[-1].end()


def _buckets(optimizer: torch.optim.Optimizer, members: Sequence[Member]) -> Iterator[list[Member]]:
    bucket: list[Member] = []
    size = 0
    for member in members:
        bucket.append(member)
        states = shaped_states(optimizer, member.parameter).values()
        size += member.parameter.nbytes + sum(s.nbytes for s in states)
        if size >= BUCKET_BYTES:
            yield bucket
            bucket, size = [], 0
    if bucket:
        yield bucket


class _Visit:
    """A bucket's time on the device: `come`, `arrive`, the step, `go`, `end`.

    Copies start at `come` and `go`, and are over at `arrive` and `end`.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, members: list[Member], copies: Copies
    ) -> None:
        self.members = members
        self._optimizer, self._copies = optimizer, copies
        self._homes: dict[tuple[Member, str], torch.Tensor] = {}
        self._moving: dict[tuple[Member, str], Any] = {}

    def come(self) -> None:
        for member in self.members:
            if member.in_host:
                self._homes[member, ""] = member.parameter.data
            if member.states_in_host:
                states = shaped_states(self._optimizer, member.parameter)
                self._homes.update({(member, key): x for key, x in states.items()})
        self._moving = {key: self._copies.to_device(x) for key, x in self._homes.items()}

    def arrive(self) -> None:
        self._land()

    def go(self) -> None:
        to_host = self._copies.to_host
        for member in self.members:
            if member.in_host:
                key = (member, "")
                self._moving[key] = to_host(member.parameter.data, self._homes[key])
            if member.states_in_host:
                for name, x in shaped_states(self._optimizer, member.parameter).items():
                    self._moving[member, name] = to_host(x, self._homes.get((member, name)))

    def end(self) -> None:
        self._land()
        self._homes.clear()

    def _land(self) -> None:
        """Use what the copies made in place of what they read."""
        for (member, name), moving in self._moving.items():
            x = resolve(moving)
            if name:
                self._optimizer.state[member.parameter][name] = x
            else:
                member.parameter.data = x
        self._moving.clear()

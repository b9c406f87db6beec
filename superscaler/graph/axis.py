"""Axes: every tensor dim is an ordered product of atomic axes, shared across the graph."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

from superscaler.graph.rule import Rule

T = TypeVar("T")
Stripe = tuple[int, int, int]  # tensor, slot of it, size of the minor axis that the slot ends with

FROZEN_SLOT = -1  # a tensor slot that no iteration axis of the operator covers: always whole


@dataclass(frozen=True, slots=True)
class Axis:
    """An atomic extent that dims of tensors are products of; `id` indexes `Axes.axes`."""

    id: int
    name: str
    size: int


@dataclass(frozen=True, slots=True)
class Iter:
    """One atomic iteration axis of an operator: part number `leaf` of the rule's axis `local`.

    A `single` one can be cut into single elements only.
    """

    axis: int
    size: int
    local: str
    leaf: int
    reduce: str | None
    indexed: bool
    frozen: bool
    cost: int
    single: bool = False


@dataclass(frozen=True)
class OperatorAxes:
    """The atomic iteration axes of one operator, and which slot of which operand each one is.

    `inputs[i]` has, per slot of input tensor i, the number of the iteration axis that covers it
    (FROZEN_SLOT when none does); `outputs` likewise.
    """

    iters: tuple[Iter, ...]
    inputs: tuple[tuple[int, ...], ...]
    outputs: tuple[tuple[int, ...], ...]
    rule: Rule
    has_rule: bool

    @cached_property
    def leaves(self) -> dict[str, tuple[int, ...]]:
        """The rule's axis name -> its atomic iteration axes, major to minor."""
        found: dict[str, list[int]] = {}
        for k, it in enumerate(self.iters):
            found.setdefault(it.local, []).append(k)
        return {name: tuple(ks) for name, ks in found.items()}


@dataclass(frozen=True)
class Axes:
    """All axes of a graph.

    `slots[t]` are the axis ids of tensor t's factors, dims in order, major to minor within a dim;
    `factors[t]` the number of factors per dim. `operators[i]` belongs to operator i. `stripes` are
    the axes that were cut in two so that the minor one can be split.
    """

    axes: tuple[Axis, ...]
    slots: tuple[tuple[int, ...], ...]
    factors: tuple[tuple[int, ...], ...]
    operators: tuple[OperatorAxes, ...]
    names: dict[str, int] = field(default_factory=dict)
    stripes: tuple[Stripe, ...] = ()

    def sizes(self, tensor: int) -> tuple[int, ...]:
        """The sizes of the tensor's slots."""
        return tuple(self.axes[a].size for a in self.slots[tensor])

    def dim_slots(self, tensor: int, dim: int) -> range:
        """The slot positions that make up one dim."""
        start = sum(self.factors[tensor][:dim])
        return range(start, start + self.factors[tensor][dim])

    def dims_of(self, tensor: int, slot_sizes: tuple[T, ...]) -> tuple[tuple[T, ...], ...]:
        """One item per slot (sizes, intervals), grouped by dim."""
        grouped, at = [], 0
        for count in self.factors[tensor]:
            grouped.append(tuple(slot_sizes[at : at + count]))
            at += count
        return tuple(grouped)

"""Where each axis of a graph occurs, and what splitting it would cost."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from superscaler.graph.axis import Axes
from superscaler.graph.graph import Graph
from superscaler.graph.operator import Phase
from superscaler.graph.tensor import TensorKind
from superscaler.ops.flops import operator_flops

_NUMBER = re.compile(r"(?<![^.])\d+(?![^.])")


@dataclass
class AxisUse:
    """One axis, or several of one name pattern that are alike (`count`).

    `num_operators` may split it, `num_whole` have it and need it whole (their operands are
    gathered: `gather_bytes`); where it is contracted, a split leaves partial sums of
    `partial_bytes` that are reduced. `work` is the share of the graph's arithmetic that a split
    divides. The bytes are those of whole tensors, once a step.
    """

    name: str
    size: int
    count: int = 1
    spots: tuple[str, ...] = ()  # parameters and batch leaves, name:dim
    num_operators: int = 0
    num_whole: int = 0
    partial_bytes: int = 0
    gather_bytes: int = 0
    work: float = 0.0
    is_batch: bool = False


@dataclass
class Unruled:
    """Operators of one target that have no axis rule: they are replicated, never split."""

    target: str
    operators: list[str] = field(default_factory=list)


def axis_uses(graph: Graph, axes: Axes) -> list[AxisUse]:
    """Every axis, the batch's first, then those that divide most work."""
    spots = _spots(graph, axes)
    uses = [AxisUse(a.name, a.size, spots=spots.get(a.id, ())) for a in axes.axes]
    leaves = {a for t in graph.batch if t >= 0 for a in axes.slots[t]}
    for axis in leaves:
        uses[axis].is_batch = True
    total = sum(operator_flops(graph, op) for op in graph.operators) or 1.0
    for op in graph.operators:
        if op.phase is not Phase.UPDATE:
            _add_operator(graph, axes, op.id, uses, total)
    return sorted(uses, key=lambda use: (use.name != "batch", not use.is_batch, -use.work))


def alike(uses: Iterable[AxisUse]) -> list[AxisUse]:
    """Axes that differ in a layer's number only, as one row: `layers.*.fc1.weight:0`."""
    rows: dict[tuple[object, ...], AxisUse] = {}
    for use in uses:
        name = pattern(use.name)
        key = (name, use.size, use.num_operators, use.num_whole, use.partial_bytes)
        if key in rows:
            rows[key].count += 1
            rows[key].work += use.work
            rows[key].gather_bytes += use.gather_bytes
        else:
            spots = tuple(dict.fromkeys(pattern(spot) for spot in use.spots))
            rows[key] = AxisUse(**{**vars(use), "name": name, "spots": spots})
    for row in rows.values():
        row.partial_bytes *= row.count
    return list(rows.values())


def pattern(name: str) -> str:
    """A name with the numbers in its path as `*`.

    >>> pattern("layers.11.fc1.weight:0"), pattern("0.weight:1.0")
    ('layers.*.fc1.weight:0', '*.weight:1.0')
    """
    path, colon, dim = name.partition(":")
    return _NUMBER.sub("*", path) + colon + dim


def unruled(graph: Graph, axes: Axes) -> list[Unruled]:
    """Operators without a rule, by target, the most frequent first."""
    found: dict[str, Unruled] = {}
    for op in graph.operators:
        if not axes.operators[op.id].has_rule:
            found.setdefault(op.target, Unruled(op.target)).operators.append(op.name)
    return sorted(found.values(), key=lambda group: (-len(group.operators), group.target))


def _spots(graph: Graph, axes: Axes) -> dict[int, tuple[str, ...]]:
    """Axis -> the dims of parameters and batch leaves that it is (part of)."""
    spots: dict[int, list[str]] = {}
    leaves = [graph.tensors[t] for t in graph.batch if t >= 0]
    for tensor in (*leaves, *graph.of_kind(TensorKind.PARAM)):
        for dim in range(len(tensor.shape)):
            slots = axes.dim_slots(tensor.id, dim)
            for k, slot in enumerate(slots):
                factor = f".{k}" if len(slots) > 1 else ""
                axis = axes.slots[tensor.id][slot]
                spots.setdefault(axis, []).append(f"{tensor.name}:{dim}{factor}")
    return {axis: tuple(names) for axis, names in spots.items()}


def _add_operator(graph: Graph, axes: Axes, op: int, uses: list[AxisUse], total: float) -> None:
    own, operator = axes.operators[op], graph.operators[op]
    free = {it.axis for it in own.iters if not it.frozen}
    for axis in free:
        uses[axis].num_operators += 1
        uses[axis].work += operator_flops(graph, operator) / total
    for k, tensor in enumerate(operator.outputs):
        covered = {own.iters[i].axis for i in own.outputs[k] if i >= 0} if tensor >= 0 else set()
        for it in own.iters if tensor >= 0 else ():
            if it.reduce and not it.frozen and it.axis not in covered:
                uses[it.axis].partial_bytes += graph.tensors[tensor].num_bytes
    whole: set[int] = set()
    for tensor in operator.inputs:
        for axis in set(axes.slots[tensor]) - free:
            uses[axis].gather_bytes += graph.tensors[tensor].num_bytes
            whole.add(axis)
    for axis in whole:
        uses[axis].num_whole += 1

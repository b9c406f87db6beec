"""Random partitions by the primitives: any operators, split, placed and ordered in any way."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from random import Random
from typing import Any

import numpy as np

from superscaler.errors import TransformError
from superscaler.graph.axis import Axes
from superscaler.graph.graph import Graph
from superscaler.graph.operator import Phase
from superscaler.transform import (
    Grid,
    Partition,
    Recompute,
    Replicate,
    Split,
    op_assign,
    op_order,
    op_trans,
    start,
)

MAX_PARTS = 12
REPLICATED = ""


@dataclass(frozen=True)
class Group:
    """Operators that are split and placed alike: (axis or REPLICATED, parts) outermost first.

    An operator that cannot be split on an axis is replicated in its place.
    """

    operators: tuple[int, ...]
    splits: tuple[tuple[str, int], ...]
    devices: Any  # nested tuples, one dim per split


@dataclass(frozen=True)
class Ordered:
    """`first` before `second`, whole or one part in time each."""

    first: int
    second: int
    first_part: tuple[int, ...] | None = None
    second_part: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Script:
    """Calls of the primitives, as data, so that they can be printed and left out one by one."""

    groups: tuple[Group, ...]
    orders: tuple[Ordered, ...] = ()
    recompute: tuple[int, ...] = ()

    def apply(self, graph: Graph, axes: Axes) -> Partition:
        """The partition that the calls make."""
        partition = self.begin(graph, axes)
        for group in self.groups:
            partition = _place(partition, group)
        for order in self.orders:
            partition = op_order(
                partition, order.first, order.second, order.first_part, order.second_part
            )
        return partition

    def begin(self, graph: Graph, axes: Axes) -> Partition:
        """The unsplit graph, with what is run again in the backward."""
        partition = start(graph, axes)
        return op_trans(partition, self.recompute, Recompute()) if self.recompute else partition


def _place(partition: Partition, group: Group) -> Partition:
    for axis, parts in group.splits:
        for op in group.operators:
            partition = _split(partition, op, axis, parts)
    return op_assign(partition, group.operators, np.array(group.devices))


def _split(partition: Partition, op: int, axis: str, parts: int) -> Partition:
    if axis != REPLICATED:
        try:
            return op_trans(partition, op, Split(axis, parts, uneven=True))
        except TransformError:
            pass
    return op_trans(partition, op, Replicate(parts))


def random_script(rng: Random, graph: Graph, axes: Axes) -> Script:
    """Groups of operators, each with nested splits and devices of its own, and random orders."""
    recompute: tuple[int, ...] = ()
    if rng.random() < 0.15:
        forward = [op.id for op in graph.operators if op.phase is Phase.FORWARD and op.module]
        recompute = tuple(sorted(rng.sample(forward, min(len(forward), 3))))
        partition = Script((), (), recompute).begin(graph, axes)
        graph, axes = partition.graph, partition.axes
    devices = rng.randint(1, 6) if rng.random() < 0.9 else 6
    groups = tuple(_group(rng, axes, ops, devices) for ops in _cut(rng, graph) if ops)
    orders: tuple[Ordered, ...] = ()
    if rng.random() < 0.3:
        parts = _time_shapes(groups)
        orders = tuple(_order(rng, graph, parts) for _ in range(rng.choice((1, 1, 2, 4))))
    return Script(groups, orders, recompute)


def _cut(rng: Random, graph: Graph) -> list[tuple[int, ...]]:
    """The operators, in disjoint groups."""
    count = len(graph.operators)
    kind = rng.choice(("all", "pieces", "pieces", "phases", "scattered", "some"))
    home = [0] * count
    if kind == "pieces":
        cuts = sorted(rng.sample(range(1, count), rng.choice((1, 2, 3))))
        home = [sum(op >= cut for cut in cuts) for op in range(count)]
        if rng.random() < 0.6:  # the backward of a piece goes with its forward
            for op in graph.operators:
                home[op.id] = home[op.forward] if op.forward >= 0 else home[op.id]
    elif kind == "phases":
        home = [list(Phase).index(op.phase) for op in graph.operators]
    elif kind == "scattered":
        share = rng.choice((0.02, 0.1, 0.5))
        home = [rng.randint(1, 3) if rng.random() < share else 0 for _ in range(count)]
    elif kind == "some":
        home = [-1] * count
    for op in rng.sample(range(count), min(count, rng.choice((0, 0, 1, 2, 5)))):
        home[op] = 10 + op
    numbers = sorted(set(home) - {-1})
    return [tuple(op for op in range(count) if home[op] == n) for n in numbers]


def _group(rng: Random, axes: Axes, operators: tuple[int, ...], num_devices: int) -> Group:
    splits: list[tuple[str, int]] = []
    for _ in range(rng.choice((0, 1, 1, 2, 2, 3))):
        parts = rng.choice((2, 2, 2, 3, 4))
        if prod(n for _, n in splits) * parts <= MAX_PARTS:
            splits.append((_axis(rng, axes, operators), parts))
    shape = tuple(n for _, n in splits)
    return Group(operators, tuple(splits), _nested(_devices(rng, shape, num_devices)))


def _axis(rng: Random, axes: Axes, operators: tuple[int, ...]) -> str:
    """An axis of one of the operators, the batch, or a replication."""
    if rng.random() < 0.15:
        return REPLICATED
    if "batch" in axes.names and rng.random() < 0.35:
        return "batch"
    iters = axes.operators[rng.choice(operators)].iters
    free = [it.axis for it in iters if not it.frozen and it.size > 1]
    return axes.axes[rng.choice(free)].name if free else REPLICATED


def _devices(rng: Random, shape: tuple[int, ...], count: int) -> np.ndarray:
    """Devices of parts: all in space, in space and time by dims, or mixed."""
    total = prod(shape)
    kind = rng.choice(("space", "space", "dims", "dims", "dims", "mixed", "one"))
    if kind == "space" and total <= count:
        return np.array(rng.sample(range(count), total)).reshape(shape)
    if kind == "mixed":
        return np.array([rng.randrange(count) for _ in range(total)]).reshape(shape)
    found = np.zeros(shape, dtype=int)
    if kind == "one":
        return found + rng.randrange(count)
    in_space = [rng.random() < 0.6 for _ in shape]
    while prod(n for n, space in zip(shape, in_space) if space) > count:
        in_space[in_space.index(True)] = False
    sizes = [n if space else 1 for n, space in zip(shape, in_space)]
    block = np.array(rng.sample(range(count), prod(sizes))).reshape(sizes)
    return found + block


def _nested(array: np.ndarray) -> Any:
    def tuples(value: Any) -> Any:
        return tuple(tuples(v) for v in value) if isinstance(value, list) else value

    return tuples(array.tolist())


def _time_shapes(groups: tuple[Group, ...]) -> dict[int, tuple[int, ...]]:
    """Operator -> the shape of its parts in time."""
    found = {}
    for group in groups:
        grid = Grid(np.array(group.devices), tuple(axis for axis, _ in group.splits))
        found.update(dict.fromkeys(group.operators, grid.time_shape))
    return found


def _order(rng: Random, graph: Graph, parts: dict[int, tuple[int, ...]]) -> Ordered:
    """Mostly along the graph's own order, where it is not sure to be a cycle."""
    first, second = rng.sample(range(len(graph.operators)), 2)
    if rng.random() < 0.8:
        first, second = min(first, second), max(first, second)
    if rng.random() < 0.5:
        return Ordered(first, second)
    some = [tuple(rng.randrange(n) for n in parts.get(op, ())) for op in (first, second)]
    return Ordered(first, second, *some)

"""The primitives: op_trans, op_assign and op_order on any selection of operators."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from superscaler.errors import TransformError
from superscaler.graph.axis import Axes, OperatorAxes
from superscaler.graph.graph import Graph
from superscaler.trace.axes import infer_axes
from superscaler.transform.algorithms import apply_algorithm
from superscaler.transform.offload import offload_activations
from superscaler.transform.partition import REPLICATE, Grid, Order, Partition, Placed
from superscaler.transform.recompute import module_regions, recompute
from superscaler.transform.select import Selection, find_axes, select
from superscaler.transform.split_axes import indivisible


@dataclass(frozen=True)
class Split:
    """Cut an axis (by name, or `parameter:dim`) in `parts`; `name` names the new grid dim."""

    axis: str
    parts: int
    name: str = ""
    uneven: bool = False


@dataclass(frozen=True)
class Replicate:
    """Do the same work `copies` times."""

    copies: int
    name: str = ""


@dataclass(frozen=True)
class Recompute:
    """Run the selected forward operators' modules again in the backward."""


@dataclass(frozen=True)
class Offload:
    """What the backward of the selected operators' modules reads waits for it in host memory."""


Algorithm = Split | Replicate | Recompute | Offload | str | Callable[..., Partition]
Operators = Selection | str | Iterable[str] | int


def start(graph: Graph, axes: Axes | None = None) -> Partition:
    """The graph unsplit, every operator on device 0; `axes` are inferred if not given."""
    axes = axes or infer_axes(graph)
    grid = Grid(np.zeros((), dtype=np.int64), ())
    return Partition(graph, axes, tuple(Placed(grid, ()) for _ in graph.operators))


def resolve(partition: Partition, ops: Operators) -> Selection:
    """Operator ids, from ids or from patterns. Raises TransformError when nothing matches."""
    if isinstance(ops, int):
        ops = (ops,)
    if isinstance(ops, str):
        return select(partition.graph, ops)
    items: tuple[object, ...] = tuple(ops)
    patterns = [i for i in items if isinstance(i, str)]
    if len(patterns) == len(items):
        return select(partition.graph, *patterns)
    count = len(partition.graph.operators)
    chosen = []
    for i in items:
        if not isinstance(i, int) or not 0 <= i < count:
            raise TransformError(
                f"operator {i!r} does not exist; the graph has operators 0 to {count - 1}"
            )
        chosen.append(i)
    return tuple(chosen)


def op_trans(
    partition: Partition, ops: Operators, algorithm: Algorithm, **options: Any
) -> Partition:
    """Split, replicate, recompute, offload or rewrite the selected operators.

    op_trans(mm, Split("batch", 2)):
        y = mm(x, w)  ->  y[0:4] = mm(x[0:4], w); y[4:8] = mm(x[4:8], w)

    A registered algorithm is named (`register_algorithm`), and takes the options:
    op_trans(partition, attention, "ring_attention", dim="cp").

    The parts stay where the operator was, one after the other, until `op_assign` moves them.
    Raises TransformError for an axis that the operator does not have, cannot split, or that is not
    divisible.
    """
    chosen = resolve(partition, ops)
    if isinstance(algorithm, (Recompute, Offload)):
        return _rewritten(partition, chosen, algorithm)
    if isinstance(algorithm, (Split, Replicate)):
        return _split(partition, chosen, algorithm)
    if isinstance(algorithm, str):
        return apply_algorithm(partition, chosen, algorithm, options)
    return algorithm(partition, chosen, **options)


def op_assign(partition: Partition, ops: Operators, devices: Any) -> Partition:
    """Place the parts of the selected operators.

    `devices` is a number, or an array with one dim per split (broadcast over missing leading dims).
    Raises TransformError when its shape does not fit the operator's parts.
    """
    chosen = resolve(partition, ops)
    array = np.asarray(devices)
    if array.dtype.kind not in "iu" or (array.size and array.min() < 0):
        raise TransformError(f"op_assign: expected device numbers from 0, found {devices!r}")
    placed = list(partition.placed)
    grids: dict[object, Grid] = {}
    for op in chosen:
        shape = placed[op].grid.shape
        try:
            spread = np.broadcast_to(array, shape)
        except ValueError:
            name = partition.graph.operators[op].name
            raise TransformError(
                f"op_assign({name}): the operator has parts of shape {shape}, "
                f"the devices {array.shape}; give one device per part"
            ) from None
        grid = Grid(spread.astype(np.int64).copy(), placed[op].grid.names)
        placed[op] = replace(placed[op], grid=grids.setdefault(grid.key, grid))
    return partition.with_placed(tuple(placed))


def op_order(
    partition: Partition,
    first: Operators,
    second: Operators,
    first_part: tuple[int, ...] | None = None,
    second_part: tuple[int, ...] | None = None,
) -> Partition:
    """`first` happens before `second` on the devices they share; a part is one time index."""
    befores, afters = resolve(partition, first), resolve(partition, second)
    orders = [Order(a, b, first_part, second_part) for a in befores for b in afters]
    return replace(partition, orders=(*partition.orders, *orders))


def _split(partition: Partition, chosen: Selection, algorithm: Split | Replicate) -> Partition:
    parts = algorithm.parts if isinstance(algorithm, Split) else algorithm.copies
    if parts < 1:
        raise TransformError(f"op_trans: expected a number of parts above 0, found {parts}")
    placed = list(partition.placed)
    grids: dict[object, Grid] = {}
    wanted = None
    if isinstance(algorithm, Split):
        wanted = {
            a for spot in find_axes(partition.graph, partition.axes, algorithm.axis) for a in spot
        }
    for op in chosen:
        role = REPLICATE
        if isinstance(algorithm, Split):
            assert wanted is not None
            role = _role(partition, op, algorithm, wanted)
        old = placed[op]
        grid = _extended(old.grid, parts, algorithm.name)
        placed[op] = replace(old, grid=grids.setdefault(grid.key, grid), roles=(*old.roles, role))
    return partition.with_placed(tuple(placed))


def _extended(grid: Grid, parts: int, name: str) -> Grid:
    devices = np.broadcast_to(grid.devices[..., None], (*grid.shape, parts)).copy()
    return Grid(devices, (*grid.names, name or f"d{len(grid.shape)}"))


def _role(partition: Partition, op: int, split: Split, wanted: set[int]) -> int:
    """The iteration axis that the split cuts: the operator's best among the axes wanted."""
    own, placed = partition.axes_of(op), partition.placed[op]
    name = partition.graph.operators[op].name
    what = f"op_trans({name}, split {split.axis}"
    found = [k for k, it in enumerate(own.iters) if it.axis in wanted]
    if not found:
        raise TransformError(
            f"{what}): the operator has no such axis; it has {_axis_list(partition, own)}"
        )
    free = [k for k in found if not own.iters[k].frozen]
    if not free:
        why = (
            "it has no rule (see register_op)"
            if not own.has_rule
            else "it needs the whole axis at once"
        )
        raise TransformError(
            f"{what}): the operator cannot be split on this axis: {why}; replicate it instead"
        )
    sizes = {k: _left(own, placed, k) for k in free}
    even = [
        k
        for k in free
        if sizes[k] % split.parts == 0 and (not own.iters[k].single or sizes[k] == split.parts)
    ]
    if split.uneven:
        even = even or [k for k in free if sizes[k] >= split.parts and not own.iters[k].single]
    if not even:
        k = free[0]
        axis = partition.axes.axes[own.iters[k].axis].name
        what = f"{what} by {split.parts})"
        raise TransformError(indivisible(what, axis, str(sizes[k]), sizes[k], split.parts))
    return min(even, key=lambda k: (own.iters[k].cost, own.iters[k].reduce is not None, k))


def _left(own: OperatorAxes, placed: Placed, k: int) -> int:
    """The smallest part of iteration axis k that earlier splits leave."""
    size = own.iters[k].size
    for role, count in zip(placed.roles, placed.grid.shape):
        if role == k:
            size //= count
    return size


def _axis_list(partition: Partition, own: OperatorAxes) -> str:
    names = dict.fromkeys(partition.axes.axes[it.axis].name for it in own.iters if not it.frozen)
    return ", ".join(names) or "none that can be split"


def _rewritten(
    partition: Partition, chosen: Selection, algorithm: Recompute | Offload
) -> Partition:
    what = type(algorithm).__name__.lower()
    if any(p.roles or p.grid.devices.any() for p in partition.placed):
        raise TransformError(f"op_trans({what}): {what} first, then split and assign")
    found = dict.fromkeys(partition.graph.operators[op].module for op in chosen)
    modules = tuple(m for m in found if m)
    graph, axes = partition.graph, partition.axes
    if isinstance(algorithm, Recompute):
        graph, axes = recompute(graph, axes, module_regions(graph, modules))
    else:
        graph, axes = offload_activations(graph, axes, modules)
    return start(graph, axes)

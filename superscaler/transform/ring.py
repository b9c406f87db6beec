"""Ring attention: keys and values in blocks, one at a time, each device starting at its own.

Before: out, lse = attention(q, k, v)               q part i;  k, v gathered on every device
After:  partial  = attention_block(q, k, v)         q part i;  k, v part (i + t) mod n at time t
        out, lse = attention_merged(partial)        partial results merged over time

Keys are split a second time, in time, and that split is turned with the one of the queries
(`Grid.turns`), so that at every time each block is on one device. All else follows: block t goes
point to point from the device that made it, while the block before is worked on; partial results
are merged as they come; in the backward, gradients of queries are summed over time, those of keys
and values sent to the block's owner.

Per device, n - 1 of the n blocks of keys and values are received in the forward, and again in the
backward: with K + V bytes of keys and values in all, (n - 1) / n * (K + V) each, and as much of
their gradients, whereas it holds 2 / n of K + V at a time: one block in use, one on its way.
Source: Ring attention, arXiv 2310.01889.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch

from superscaler.errors import TransformError
from superscaler.graph.axis import Axes, OperatorAxes
from superscaler.graph.graph import Graph
from superscaler.graph.operator import Operator, Ref
from superscaler.graph.tensor import PTensor, TensorKind
from superscaler.trace.axes import infer_axes
from superscaler.transform.context import KEYS, QUERIES
from superscaler.transform.partition import REPLICATE, Grid, Partition, Placed
from superscaler.transform.renumber import renumber
from superscaler.transform.select import Selection

FORWARD = "superscaler.attention.default"
MERGED = "superscaler.attention_merged.default"
BACKWARDS = (
    "superscaler.attention_backward.default",
    "superscaler.attention_backward_mask.default",
)
NUM_ARGS = {FORWARD: 8, **dict.fromkeys(BACKWARDS, 11)}  # before the index
RING = "ring"  # the name of the split in time


def ring_attention(partition: Partition, selection: Selection, dim: str = "cp") -> Partition:
    """Every selected attention, and its backward, takes keys and values in blocks along `dim`.

    Raises TransformError when there is none, or its queries are not split on the grid dim `dim`.
    """
    graph = partition.graph
    chosen = {op for op in selection if graph.operators[op].target in NUM_ARGS}
    chosen |= {op.id for op in graph.operators if op.forward in chosen and op.target in NUM_ARGS}
    if not chosen:
        raise TransformError(
            "op_trans(ring_attention): no attention is among the selected operators; "
            "select modules that call scaled_dot_product_attention"
        )
    tensors = list(graph.tensors)
    operators: list[Operator] = []
    origins: list[int] = []  # the operator of the old graph that each comes from
    for op in graph.operators:
        new = _on_blocks(tensors, op, len(graph.operators)) if op.id in chosen else (op,)
        operators += new
        origins += [op.id] * len(new)
    position = {op.id: i for i, op in enumerate(operators)}
    rewritten = renumber(graph, tensors, operators)
    axes = infer_axes(rewritten, partition.axes.stripes)
    placed = [
        _same_placement(partition, old, own, by_output=op.target == MERGED)
        for op, own, old in zip(operators, axes.operators, origins)
    ]
    work = _Turning(rewritten, axes, placed, dim)
    for old in sorted(chosen):
        work.turn(position[old])
    orders = tuple(
        replace(o, first=position[o.first], second=position[o.second]) for o in partition.orders
    )
    return replace(partition, graph=rewritten, axes=axes, placed=tuple(work.placed), orders=orders)


def _on_blocks(tensors: list[PTensor], op: Operator, count: int) -> tuple[Operator, ...]:
    """The operator on blocks of keys, and the one that makes of its results what it made.

    New tensors are added to `tensors`; a new operator's id is above `count`.
    """
    is_forward = op.target == FORWARD
    num_keys = tensors[op.inputs[1 if is_forward else 2]].shape[-2]
    args = (*op.args[: NUM_ARGS[op.target]], [], 0, 0, num_keys)
    if not is_forward:
        return (replace(op, args=args),)
    out = tensors[op.outputs[0]]
    dtype = torch.float32 if out.dtype.itemsize < 4 else out.dtype
    shape = (*out.shape[:-1], out.shape[-1] + 1)
    partial = PTensor(len(tensors), f"{out.name}.partial", shape, dtype, TensorKind.VALUE)
    tensors.append(partial)
    block = replace(
        op,
        name=f"{op.name}.block",
        target="superscaler.attention_block.default",
        args=args,
        outputs=(partial.id,),
    )
    merged = replace(
        op,
        id=count + partial.id,
        target=MERGED,
        args=(Ref(0), out.dtype),
        inputs=(partial.id,),
    )
    return block, merged


def _same_placement(partition: Partition, old: int, own: OperatorAxes, by_output: bool) -> Placed:
    """The placement of operator `old` for one with its axes, or only with its output's.

    What cannot be split any more (head dims of values) is done on each device.
    """
    placed, before = partition.placed[old], partition.axes_of(old)
    if by_output:
        number = dict(zip(before.outputs[0], own.outputs[0]))
    else:
        found = {(it.local, it.leaf): k for k, it in enumerate(own.iters)}
        number = {k: found[it.local, it.leaf] for k, it in enumerate(before.iters)}
    free = {k: n for k, n in number.items() if n >= 0 and not own.iters[n].frozen}
    roles = tuple(free.get(r, REPLICATE) if r >= 0 else r for r in placed.roles)
    return replace(placed, roles=roles)


@dataclass
class _Turning:
    """Gives operators on blocks of keys their split in time."""

    graph: Graph
    axes: Axes
    placed: list[Placed]
    dim: str
    grids: dict[object, Grid] = field(default_factory=dict)

    def turn(self, op: int) -> None:
        """Split the keys of operator `op` in time, turned with the split of its queries."""
        own, placed = self.axes.operators[op], self.placed[op]
        at = placed.grid.names.index(self.dim) if self.dim in placed.grid.names else -1
        role = placed.roles[at] if at >= 0 else REPLICATE
        if role < 0 or own.iters[role].local != QUERIES:
            raise TransformError(self._not_split(op))
        count, keys = placed.grid.shape[at], self._keys(own, role)
        size = own.iters[keys].size
        if size < count:
            raise TransformError(
                f"op_trans(ring_attention, {self.graph.operators[op].name}): {size} keys cannot be "
                f"cut in {count} blocks; use fewer parts on {self.dim}"
            )
        grid = self.grids.setdefault(placed.grid.key, _turned(placed.grid, at))
        roles = (*placed.roles, keys)
        self.placed[op] = replace(placed, grid=grid, roles=roles)

    def _keys(self, own: OperatorAxes, queries: int) -> int:
        """The iteration axis of the keys to cut: that of the queries in its other role."""
        found = [k for k in own.leaves.get(KEYS, ()) if not own.iters[k].frozen]
        same = [k for k in found if own.iters[k].axis == own.iters[queries].axis]
        return (same or found)[0]

    def _not_split(self, op: int) -> str:
        name, names = self.graph.operators[op].name, self.placed[op].grid.names
        return (
            f"op_trans(ring_attention, {name}): expected its queries to be split on {self.dim!r}; "
            f"its grid has {', '.join(names) or 'no dims'}; split the axis of the positions there "
            "first (in a plan: {axis: context, dim: " + self.dim + "})"
        )


def _turned(grid: Grid, dim: int) -> Grid:
    """`grid` with one more dim, in time, that turns with `dim`."""
    last, count = len(grid.shape), grid.shape[dim]
    devices = np.repeat(grid.devices[..., None], count, axis=-1)
    return Grid(devices, (*grid.names, RING), (*grid.turns, (last, dim)))

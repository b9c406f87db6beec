"""Layout: where the parts of a tensor are, and which box of it, or partial value, each is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

from superscaler.transform.partition import REPLICATE, VALUE, Grid, Partition

Box = tuple[tuple[int, int], ...]  # (start, stop) per slot


@dataclass(frozen=True)
class Layout:
    """The parts of a tensor over a grid.

    `roles[d]`: the slot that grid dim d splits, REPLICATE (same data) or VALUE (partial values,
    to be combined by `reduce`). `sizes` are the slots' global sizes. Splits of one slot nest in
    grid-dim order.
    """

    grid: Grid
    roles: tuple[int, ...]
    sizes: tuple[int, ...]
    reduce: str = "sum"

    @cached_property
    def key(self) -> tuple[object, ...]:
        return (self.grid.key, self.roles, self.sizes, self.reduce)

    def box(self, part: tuple[int, ...]) -> Box:
        """The part's interval on every slot."""
        bounds = [(0, n) for n in self.sizes]
        for role, index, count in zip(self.roles, self.grid.cell(part), self.grid.shape):
            if role >= 0:
                bounds[role] = interval(*bounds[role], index, count)
        return tuple(bounds)

    def value(self, part: tuple[int, ...]) -> tuple[int, ...]:
        """Which partial value the part holds: its index on the VALUE dims."""
        return tuple(i for i, role in zip(part, self.roles) if role == VALUE)

    def parts(self) -> list[tuple[int, ...]]:
        """Every part's index, in row-major order."""
        return list(product(*(range(n) for n in self.grid.shape)))

    @property
    def is_turned(self) -> bool:
        """Whether which box a part has depends on two of its indices together."""
        return any(self.roles[dim] >= 0 for dim, _ in self.grid.turns)

    @cached_property
    def is_even(self) -> bool:
        """Whether all parts have the same local sizes."""
        return comes_out_even(self.sizes, self.roles, self.grid.shape)

    def local_sizes(self, part: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(stop - start for start, stop in self.box(part))


def comes_out_even(sizes: Sequence[int], roles: Sequence[int], counts: Sequence[int]) -> bool:
    """Whether dims of `counts` parts, each on the axis that its role names, leave equal parts."""
    left = list(sizes)
    for role, count in zip(roles, counts):
        if role >= 0:
            if left[role] % count:
                return False
            left[role] //= count
    return True


def interval(start: int, stop: int, index: int, count: int) -> tuple[int, int]:
    """Part `index` of `count` of [start, stop): sizes differ by at most one, larger ones first."""
    each, extra = divmod(stop - start, count)
    first = start + index * each + min(index, extra)
    return first, first + each + (1 if index < extra else 0)


def input_layout(partition: Partition, op: int, i: int) -> Layout:
    """What operator `op` reads of its input number `i`."""
    placed, axes = partition.placed[op], partition.axes_of(op)
    tensor = partition.graph.operators[op].inputs[i]
    slots = {k: s for s, k in enumerate(axes.inputs[i]) if k >= 0}
    roles = tuple(
        (VALUE if i in placed.linear else REPLICATE) if r == VALUE else slots.get(r, REPLICATE)
        for r in placed.roles
    )
    return Layout(placed.grid, roles, partition.axes.sizes(tensor))


def output_layout(partition: Partition, op: int, k: int) -> Layout:
    """What operator `op` writes of its output number `k`."""
    placed, axes = partition.placed[op], partition.axes_of(op)
    tensor = partition.graph.operators[op].outputs[k]
    slots = {a: s for s, a in enumerate(axes.outputs[k]) if a >= 0}
    roles, reduce = [], "sum"
    for r in placed.roles:
        if r < 0:
            roles.append(r)
        elif r in slots:
            roles.append(slots[r])
        elif axes.iters[r].reduce is None:
            roles.append(REPLICATE)
        else:
            roles.append(VALUE)
            reduce = axes.iters[r].reduce or "sum"
    return Layout(placed.grid, tuple(roles), partition.axes.sizes(tensor), reduce)


def source_layout(partition: Partition, tensor: int) -> Layout | None:
    """Where `tensor` is before anyone reads it; None when every reader can have its own part.

    A value is where its operator writes it. A trained parameter or optimizer state rests as its
    update reads and writes it, a buffer that the step changes as its new value is reduced to.
    Batch leaves, frozen parameters and constant buffers are cut to what each reader reads.
    """
    graph = partition.graph
    if tensor in graph.producer:
        return output_layout(partition, *graph.producer[tensor])
    update = graph.update_of.get(tensor)
    if update is not None:
        op = graph.operators[update]
        return input_layout(partition, update, op.inputs.index(tensor))
    if tensor in graph.buffers and graph.buffers[tensor] in graph.producer:
        return resting_layout(output_layout(partition, *graph.producer[graph.buffers[tensor]]))
    return None


def resting_layout(layout: Layout) -> Layout:
    """`layout` at the end of the step: time dims collapsed, partial values reduced."""
    grid = layout.grid
    dims = grid.space_dims
    settled = Grid(grid.at((0,) * len(grid.time_dims)), tuple(grid.names[d] for d in dims))
    split_in_time = {layout.roles[d] for d in grid.time_dims if layout.roles[d] >= 0}
    roles = tuple(
        layout.roles[d]
        if layout.roles[d] >= 0 and layout.roles[d] not in split_in_time
        else REPLICATE
        for d in dims
    )
    return Layout(settled, roles, layout.sizes)

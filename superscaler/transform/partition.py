"""Partition: a graph with every operator split into parts, and every part on a device.

The parts of an operator are the entries of an n-dimensional grid. Each grid dim is one split (or
replication) of the operator; the operator's `devices` array has one entry per part. Parts are never
objects: an operator holds its roles (what each grid dim does to it) and shares the grid.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from superscaler.graph.axis import Axes, OperatorAxes
from superscaler.graph.graph import Graph

MICROBATCH = "mb"  # the name of the grid dim that a plan's microbatches are
REPLICATE = -1  # every part along the grid dim does the same work
VALUE = -2  # every part works on one partial value of the operator's linear inputs


@dataclass(frozen=True, eq=False)
class Grid:
    """The devices of an operator's parts, shared by all operators that are placed alike.

    `devices` has one dim per split; `names` names them ("mb", "dp", "tp"). A pair (d, e) of `turns`
    turns dim d with dim e: the part with indices i on d and j on e has piece (i + j) mod n of what
    d splits, so that along e no two parts have the same piece at a time. Operators of one `label`
    ("0.F": forward of stage 0) on one grid run together as a task where dependencies allow.
    """

    devices: np.ndarray
    names: tuple[str, ...]
    turns: tuple[tuple[int, int], ...] = ()

    @cached_property
    def key(self) -> tuple[object, ...]:
        """Equal for grids with the same names, devices and turns."""
        return (self.devices.shape, self.devices.astype(np.int64).tobytes(), self.names, self.turns)

    def cell(self, part: tuple[int, ...]) -> tuple[int, ...]:
        """Which of the pieces along each dim the part has: its index, turned where the dim is."""
        if not self.turns:
            return part
        found = list(part)
        for dim, by in self.turns:
            found[dim] = (part[dim] + part[by]) % self.shape[dim]
        return tuple(found)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.devices.shape

    @cached_property
    def time_dims(self) -> tuple[int, ...]:
        """The dims along which a device works on several parts, one after the other.

        The fewest leading-first dims such that, for any index on them, all devices differ.
        """
        times: list[int] = []
        for dim in range(len(self.shape)):
            rest = [d for d in range(len(self.shape)) if d not in times]
            if self._distinct(rest):
                break
            alone = np.moveaxis(self.devices, dim, -1).reshape(-1, self.shape[dim])
            if any(len(set(row.tolist())) < len(row) for row in alone):
                times.append(dim)
        for dim in range(len(self.shape)):
            rest = [d for d in range(len(self.shape)) if d not in times]
            if self._distinct(rest):
                break
            if dim not in times:
                times = sorted([*times, dim])
        return tuple(times)

    def _distinct(self, dims: list[int]) -> bool:
        """Whether the parts along `dims` are on different devices, at every index of the others."""
        count = int(np.prod([self.shape[d] for d in dims])) if dims else 1
        rows = np.moveaxis(self.devices, dims, range(-len(dims), 0)) if dims else self.devices
        flat = np.sort(rows.reshape(-1, count), axis=1)
        return not bool((flat[:, 1:] == flat[:, :-1]).any())

    @cached_property
    def space_dims(self) -> tuple[int, ...]:
        return tuple(d for d in range(len(self.shape)) if d not in self.time_dims)

    @cached_property
    def time_shape(self) -> tuple[int, ...]:
        return tuple(self.shape[d] for d in self.time_dims)

    def at(self, time: tuple[int, ...]) -> np.ndarray:
        """The devices of the parts with this time index, over the space dims."""
        index: list[int | slice] = [slice(None)] * len(self.shape)
        for d, i in zip(self.time_dims, time):
            index[d] = i
        return np.asarray(self.devices[tuple(index)])


@dataclass(frozen=True, slots=True)
class Placed:
    """How one operator is split and where it runs.

    `roles[d]` says what grid dim d does: the number of an iteration axis, REPLICATE or VALUE;
    `linear` are the input positions that carry partial values along VALUE dims. `label` groups
    operators into tasks. `gather` is "use" when what this operator produces (or a parameter that it
    updates) is brought into its readers' layout at each use and freed after, else "step". `reduce`
    is "microbatch" when gradients that it reads are reduced over replicas at each, else "step".
    """

    grid: Grid
    roles: tuple[int, ...]
    label: str = ""
    linear: frozenset[int] = frozenset()
    gather: str = "step"
    reduce: str = "step"


@dataclass(frozen=True, slots=True)
class Order:
    """`first` happens before `second`; a part index limits it to parts with that time index."""

    first: int
    second: int
    first_time: tuple[int, ...] | None = None
    second_time: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Partition:
    """The transformed and assigned graph: `placed[i]` belongs to operator i.

    `sequence` orders macro tasks per label: see `schedule.orders`. `copies_ahead`: how many copies
    from host memory are under way before the one in use.
    """

    graph: Graph
    axes: Axes
    placed: tuple[Placed, ...]
    orders: tuple[Order, ...] = ()
    sequences: tuple[tuple[tuple[str, int], ...], ...] = ()
    notes: tuple[str, ...] = field(default=())
    copies_ahead: int = 4

    @property
    def num_devices(self) -> int:
        return 1 + max(int(p.grid.devices.max()) for p in self.placed)

    def axes_of(self, op: int) -> OperatorAxes:
        return self.axes.operators[op]

    def with_placed(self, placed: tuple[Placed, ...]) -> Partition:
        return replace(self, placed=placed)

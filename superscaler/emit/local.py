"""The local view of one operator's part: shapes, sizes and offsets (`ops.Local`)."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from superscaler.emit.constants import Constants
from superscaler.graph.axis import OperatorAxes
from superscaler.runtime.by_time import Time
from superscaler.transform.layout import Layout, interval
from superscaler.transform.partition import Grid, Placed


@dataclass
class PartIndex:
    """Which part of a grid a rank runs at a time index, remembered."""

    grid: Grid
    known: dict[Time, dict[int, tuple[int, ...]]]

    def __call__(self, rank: int, time: Time) -> tuple[int, ...]:
        part = self.find(rank, time)
        assert part is not None, f"rank {rank} has no part at {time}"
        return part

    def find(self, rank: int, time: Time) -> tuple[int, ...] | None:
        """The index of the part that `rank` runs at `time`, None when it runs none."""
        if time not in self.known:
            self.known[time] = self._parts(time)
        return self.known[time].get(rank)

    def _parts(self, time: Time) -> dict[int, tuple[int, ...]]:
        devices = self.grid.at(time)
        found = {}
        for index in np.ndindex(devices.shape):
            part = [0] * len(self.grid.shape)
            for d, i in zip(self.grid.time_dims, time):
                part[d] = i
            for d, i in zip(self.grid.space_dims, index):
                part[d] = int(i)
            found[int(devices[index])] = tuple(part)
        return found


@dataclass
class LocalView:
    """One part of an operator: `part` fixes the sizes; what differs by rank becomes a constant."""

    axes: OperatorAxes
    placed: Placed
    part: tuple[int, ...]
    inputs: tuple[Layout, ...]
    outputs: tuple[Layout, ...]
    input_factors: tuple[tuple[int, ...], ...]
    output_factors: tuple[tuple[int, ...], ...]
    constants: Constants
    index_of: PartIndex

    def input_shape(self, i: int) -> tuple[int, ...]:
        return local_shape(self.inputs[i], self.part, self.input_factors[i])

    def output_shape(self, k: int) -> tuple[int, ...]:
        return local_shape(self.outputs[k], self.part, self.output_factors[k])

    def _bounds(self, leaf: int, part: tuple[int, ...]) -> tuple[int, int]:
        bounds = (0, self.axes.iters[leaf].size)
        for role, i, n in zip(
            self.placed.roles, self.placed.grid.cell(part), self.placed.grid.shape
        ):
            if role == leaf:
                bounds = interval(*bounds, i, n)
        return bounds

    def size(self, axis: str) -> int:
        total = 1
        for leaf in self.axes.leaves.get(axis, ()):
            start, stop = self._bounds(leaf, self.part)
            total *= stop - start
        return total

    def is_split(self, axis: str) -> bool:
        return any(leaf in self.placed.roles for leaf in self.axes.leaves.get(axis, ()))

    def start(self, axis: str) -> Any:
        leaves = self.axes.leaves.get(axis, ())
        if not self.is_split(axis):
            return 0
        sizes = tuple(self.axes.iters[leaf].size for leaf in leaves)
        dims = tuple(leaves.index(r) if r in leaves else -1 for r in self.placed.roles)

        def value(rank: int, time: Time) -> int:
            part = self.index_of(rank, time)
            starts = [self._bounds(leaf, part)[0] for leaf in leaves]
            return sum(s * prod(sizes[k + 1 :]) for k, s in enumerate(starts))

        return self.constants.get("start", ("start", self.placed.grid.key, dims, sizes), value)

    def stride(self, axis: str) -> int:
        leaves = self.axes.leaves.get(axis, ())
        is_striped = len(leaves) > 1 and leaves[-1] in self.placed.roles
        return self.axes.iters[leaves[-1]].size if is_striped else 1

    def index(self, k: int) -> Any:
        layout, factors = self.outputs[k], self.output_factors[k]
        if not any(r >= 0 for r in layout.roles):
            return []
        key = ("index", layout.key, factors)
        return self.constants.get(
            "index", key, lambda rank, t: index_list(layout, self.index_of(rank, t), factors)
        )


def local_shape(layout: Layout, part: tuple[int, ...], factors: tuple[int, ...]) -> tuple[int, ...]:
    """The part's shape: the products of its local slot sizes, dim by dim."""
    sizes = layout.local_sizes(part)
    shape, at = [], 0
    for count in factors:
        shape.append(prod(sizes[at : at + count]))
        at += count
    return tuple(shape)


def index_list(layout: Layout, part: tuple[int, ...], factors: tuple[int, ...]) -> list[int]:
    """Which elements of the global tensor the part holds, as random operators number them:
    per dim its number of factors, then global size, start and local size of each."""
    box = layout.box(part)
    found, at = [], 0
    for count in factors:
        found.append(count)
        for slot in range(at, at + count):
            start, stop = box[slot]
            found += [layout.sizes[slot], start, stop - start]
        at += count
    return found

"""Conversion: how one tensor gets from its producer's layout into a reader's, fast path first."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np

from superscaler.cluster.cluster import Cluster
from superscaler.materialize.rvd import Path, PathCache, SpaceLayout, find_path
from superscaler.transform.layout import Layout
from superscaler.transform.match import ALL, FIRST, TimeMatch
from superscaler.transform.partition import REPLICATE, VALUE, Grid

Time = tuple[int, ...]


@dataclass(frozen=True)
class Route:
    """The way of a tensor between two layouts that does not depend on which tensor it is.

    `keys` are the reader's time positions on which the converted value depends. `collapse` is how
    the producer's parts in time are joined first: "" (nothing to join), "sum"/"max" (partial values
    are accumulated as they come) or "concat". Parts are joined along `concat_slot` (-1: none), also
    after a sum. `paths` maps a time key to the
    steps between devices; None means the general path: box intersections, point to point. `cut`
    are the slots on which the reader takes its own interval out of the converted value.
    """

    source: Layout
    target: Layout
    match: TimeMatch
    keys: tuple[int, ...]
    collapse: str
    concat_slot: int
    paths: dict[Time, Path] | None
    cut: frozenset[int]

    @property
    def is_general(self) -> bool:
        return self.paths is None

    @property
    def has_one_source(self) -> bool:
        """Whether, on each device and at each time, the value is made of one part."""
        return self.is_collected or ALL not in self.match.sources

    @property
    def is_dealt(self) -> bool:
        """Whether the readers' parts get another piece at each time (`Grid.turns`): the pieces are
        sent one after the other, each while the one before is worked on, and none is kept."""
        return self.is_general and self.target.is_turned and not self.source.is_turned

    @cached_property
    def is_collected(self) -> bool:
        """Whether the producer's parts of each time add up to a partial sum of the whole, so that
        they are sent, and added, as they come."""
        source = self.source
        if not (self.is_general and source.is_turned and source.reduce == "sum"):
            return False
        turned = [(d, by) for d, by in source.grid.turns if source.roles[d] >= 0]
        pairs = zip(source.grid.time_dims, self.match.sources)
        return (
            [d for d, s in pairs if s == ALL] == [d for d, _ in turned]
            and all(source.roles[by] == VALUE for _, by in turned)
            and set(self.keys) <= set(self.match.sources)
        )

    @property
    def is_identity(self) -> bool:
        """The reader can use the producer's value as it is."""
        if self.paths is None or self.collapse:
            return False
        return all(not p.steps for p in self.paths.values())

    @cached_property
    def is_uniform(self) -> bool:
        """Whether the same devices take part at every time."""
        assert self.paths is not None
        return len({(p.source.tobytes(), p.target.tobytes()) for p in self.paths.values()}) == 1

    @property
    def is_local_sum(self) -> bool:
        """The reader can use the accumulated partial values as they are."""
        if self.paths is None or self.collapse in ("", "concat") or self.concat_slot >= 0:
            return False
        return all(not p.steps for p in self.paths.values())

    @cached_property
    def exchanges(self) -> dict[Time, Any]:
        """What `general.exchanges` has found so far, by time key."""
        return {}

    @cached_property
    def kept(self) -> tuple[int, ...]:
        """The producer's time positions that are left when its partial values have been added."""
        added = self.collapse not in ("", "concat")
        pairs = zip(self.source.grid.time_dims, self.match.sources)
        gone = [added and s == ALL and self.source.roles[d] == VALUE for d, s in pairs]
        return tuple(i for i, is_gone in enumerate(gone) if not is_gone)

    @property
    def grows(self) -> bool:
        """Whether the result takes more memory than what it is made from."""
        if self.paths is None:
            return True
        return any(
            p.steps and np.prod(p.steps[-1].after) > np.prod(p.steps[0].before)
            for p in self.paths.values()
        )

    def key_of(self, time: Time) -> Time:
        """The converted value's time key for a reader's time index."""
        return tuple(time[k] for k in self.keys)

    def reader_time(self, key: Time) -> Time:
        """A reader's time index with this time key (0 where the value does not depend on it)."""
        time = [0] * len(self.target.grid.time_dims)
        for k, i in zip(self.match.sources if self.is_collected else self.keys, key):
            if k >= 0:
                time[k] = i
        return tuple(time)

    def all_keys(self) -> list[Time]:
        """The time indices at which it runs: one for each time key; for each of the producer's
        times where its parts are collected."""
        if self.is_collected:
            return list(product(*(range(n) for n in self.source.grid.time_shape)))
        shape = self.target.grid.time_shape
        return list(product(*(range(shape[k]) for k in self.keys)))

    @property
    def key_names(self) -> tuple[str, ...]:
        """The names of the grid dims that the time indices of `all_keys` are on."""
        if self.is_collected:
            return tuple(self.source.grid.names[d] for d in self.source.grid.time_dims)
        return tuple(self.target.grid.names[self.target.grid.time_dims[k]] for k in self.keys)

    @property
    def written(self) -> tuple[int, ...]:
        """The positions, in a time index of `all_keys`, of the converted value's time key."""
        if self.is_collected:
            return tuple(self.match.sources.index(k) for k in self.keys)
        return tuple(range(len(self.keys)))

    def source_times(self, key: Time) -> list[Time]:
        """The producer's time indices that the value is made from, or added to, at `key`."""
        if self.is_collected:
            return [key]
        time = self.reader_time(key)
        shape = self.source.grid.time_shape
        ranges = [
            range(n) if s == ALL else (0,) if s == FIRST else (time[s],)
            for s, n in zip(self.match.sources, shape)
        ]
        return list(product(*ranges))


def plan_route(
    source: Layout,
    target: Layout,
    match: TimeMatch,
    item_bytes: int,
    cluster: Cluster,
    cache: PathCache,
) -> Route:
    """The cheapest regular route, or the general one where no regular one exists."""
    if match.is_aligned and _is_same(source, target):
        return _identity(source, target, match)
    fast = _fast_route(source, target, match, item_bytes, cluster, cache)
    if fast is not None:
        return fast
    keys = tuple(
        k
        for k, d in enumerate(target.grid.time_dims)
        if target.roles[d] != REPLICATE or k in match.sources or not _is_constant(target.grid, d)
    )
    return Route(source, target, match, keys, "", -1, None, frozenset())


def _is_same(source: Layout, target: Layout) -> bool:
    """Whether every part is read where it is written, of equal sizes or not."""
    is_partial = VALUE in source.roles and source.reduce != target.reduce
    return source.grid.key == target.grid.key and source.roles == target.roles and not is_partial


def _identity(source: Layout, target: Layout, match: TimeMatch) -> Route:
    keys = tuple(range(len(target.grid.time_dims)))
    route = Route(source, target, match, keys, "", -1, {}, frozenset())
    assert route.paths is not None
    for key in route.all_keys():
        devices = source.grid.at(key)
        route.paths[key] = Path(devices, devices, (), source.reduce, 0.0)
    return route


def _fast_route(
    source: Layout,
    target: Layout,
    match: TimeMatch,
    item_bytes: int,
    cluster: Cluster,
    cache: PathCache,
) -> Route | None:
    if not (source.is_even and target.is_even) or source.is_turned:
        return None
    joined = _collapse(source, match)
    if joined is None:
        return None
    collapse, slot = joined
    own = [
        k
        for k, d in enumerate(target.grid.time_dims)
        if target.roles[d] != REPLICATE and k not in match.sources
    ]
    dims = target.grid.time_dims
    if any(target.roles[dims[k]] == VALUE for k in own):
        return None
    pairs = [
        (source.roles[d], target.roles[dims[s]])
        for d, s in zip(source.grid.time_dims, match.sources)
        if s >= 0
    ]
    if any(theirs == VALUE != mine for mine, theirs in pairs):
        return None
    cut_slots = {target.roles[dims[k]] for k in own}
    cut_slots |= {theirs for mine, theirs in pairs if mine == REPLICATE != theirs}
    if cut_slots & {mine for mine, _ in pairs}:
        return None
    keys = tuple(
        k for k, d in enumerate(dims) if k in match.sources or not _is_constant(target.grid, d)
    )
    route = Route(source, target, match, keys, collapse, slot, {}, frozenset(cut_slots))
    assert route.paths is not None
    for key in route.all_keys():
        path = _path(route, key, cut_slots, item_bytes, cluster, cache)
        if path is None:
            return None
        route.paths[key] = path
    steps = {p.steps for p in route.paths.values()}
    if target.is_turned and steps != {()}:
        return None  # the parts' pieces come one by one, not all at once
    return route if len(steps) == 1 else None


def _path(
    route: Route,
    key: Time,
    cut_slots: set[int],
    item_bytes: int,
    cluster: Cluster,
    cache: PathCache,
) -> Path | None:
    source, target = route.source, route.target
    first = route.source_times(key)[0]
    sizes = list(source.sizes)
    for d, s in zip(source.grid.time_dims, route.match.sources):
        if s >= 0 and source.roles[d] >= 0:
            sizes[source.roles[d]] //= source.grid.shape[d]
    roles = tuple(source.roles[d] for d in source.grid.space_dims)
    here = SpaceLayout(source.grid.at(first), roles, tuple(sizes), source.reduce)
    roles = tuple(
        REPLICATE if target.roles[d] in cut_slots else target.roles[d]
        for d in target.grid.space_dims
    )
    there = SpaceLayout(target.grid.at(route.reader_time(key)), roles, tuple(sizes), target.reduce)
    return find_path(here, there, item_bytes, cluster, cache)


def _collapse(source: Layout, match: TimeMatch) -> tuple[str, int] | None:
    """How the parts at all indices of the unmatched time dims are joined; None: not simply."""
    dims = [d for d, s in zip(source.grid.time_dims, match.sources) if s == ALL]
    if not dims:
        return "", -1
    if not all(_is_constant(source.grid, d) for d in dims):
        return None
    cuts = [d for d in dims if source.roles[d] != VALUE]
    how = source.reduce if len(cuts) < len(dims) else "concat"
    if not cuts:
        return how, -1
    slot = source.roles[cuts[0]]
    is_innermost = cuts[0] == max(d for d, role in enumerate(source.roles) if role == slot)
    return (how, slot) if len(cuts) == 1 and is_innermost else None


def _is_constant(grid: Grid, dim: int) -> bool:
    """Whether the devices do not depend on the index on `dim`."""
    rows = np.moveaxis(grid.devices, dim, 0)
    return bool((rows == rows[:1]).all())

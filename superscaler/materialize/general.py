"""The general path: box intersections between producers' and readers' parts, point to point."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from math import prod
from types import MappingProxyType

from superscaler.materialize.conversion import Route, Time
from superscaler.transform.layout import Box, Layout
from superscaler.transform.partition import VALUE

Part = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Exchange:
    """What one rank does in a point-to-point conversion; boxes are local, one interval per slot.

    `local`: (source time, source box, result box, add); `send`: (source time, source box, rank);
    `recv`: (rank, result box, add). `slots`: (time, local slot sizes) of each source part; `out`:
    those of the result, None when the rank receives nothing.
    """

    local: tuple[tuple[Time, Box, Box, bool | str], ...] = ()
    send: tuple[tuple[Time, Box, int], ...] = ()
    recv: tuple[tuple[int, Box, bool | str], ...] = ()
    slots: tuple[tuple[Time, tuple[int, ...]], ...] = ()
    out: tuple[int, ...] | None = None

    def spec(self) -> dict[str, object]:
        """The constant of the emitted code."""
        return {
            "local": list(self.local),
            "send": list(self.send),
            "recv": list(self.recv),
            "slots": dict(self.slots),
            "out": self.out,
        }


@dataclass
class _Draft:
    """An exchange that is being found."""

    local: list[tuple[Time, Box, Box, bool | str]] = field(default_factory=list)
    send: list[tuple[Time, Box, int]] = field(default_factory=list)
    recv: list[tuple[int, Box, bool | str]] = field(default_factory=list)
    slots: dict[Time, tuple[int, ...]] = field(default_factory=dict)
    out: tuple[int, ...] | None = None

    def done(self) -> Exchange:
        """As routes share it."""
        slots = tuple(self.slots.items())
        return Exchange(tuple(self.local), tuple(self.send), tuple(self.recv), slots, self.out)


def exchanges(route: Route, key: Time) -> Mapping[int, Exchange]:
    """Rank -> its part in bringing the tensor to the readers' parts at time key `key`; found once
    for each route."""
    if key not in route.exchanges:
        plan = _exchanges(route, key)
        route.exchanges[key] = MappingProxyType({rank: d.done() for rank, d in plan.items()})
    found: Mapping[int, Exchange] = route.exchanges[key]
    return found


def _exchanges(route: Route, key: Time) -> dict[int, _Draft]:
    plan: dict[int, _Draft] = {}
    sources = _source_parts(route, key)
    own_values = _own_value_dims(route)
    for part in _reader_parts(route, key):
        rank = int(route.target.grid.devices[part])
        mine = plan.setdefault(rank, _Draft())
        box = route.target.box(part)
        mine.out = tuple(b - a for a, b in box)
        if any(part[d] for d in own_values):
            continue  # a partial value other than the first: zero
        _fill(plan, route.source, sources, box, rank)
    return plan


def _own_value_dims(route: Route) -> list[int]:
    """The reader's dims of partial values but those, in time, along which each part reads the
    producer's partial value of the same index."""
    source, target = route.source, route.target
    pairs = zip(source.grid.time_dims, route.match.sources)
    taken = {target.grid.time_dims[s] for d, s in pairs if s >= 0 and source.roles[d] == VALUE}
    return [d for d, role in enumerate(target.roles) if role == VALUE and d not in taken]


def _reader_parts(route: Route, key: Time) -> list[Part]:
    grid = route.target.grid
    time = route.reader_time(key)
    ranges = [range(n) for n in grid.shape]
    for d, i in zip(grid.time_dims, time):
        ranges[d] = range(i, i + 1)
    return list(product(*ranges))


def _source_parts(route: Route, key: Time) -> dict[tuple[Box, Part], list[Part]]:
    """The producer's parts by box and partial value: those in one list hold the same data."""
    grid = route.source.grid
    found: dict[tuple[Box, Part], list[Part]] = {}
    for time in route.source_times(key):
        ranges = [range(n) for n in grid.shape]
        for d, i in zip(grid.time_dims, time):
            ranges[d] = range(i, i + 1)
        for part in product(*ranges):
            found.setdefault((route.source.box(part), route.source.value(part)), []).append(part)
    return found


def _fill(
    plan: dict[int, _Draft],
    source: Layout,
    sources: dict[tuple[Box, Part], list[Part]],
    box: Box,
    rank: int,
) -> None:
    """Assemble `box` on `rank` from one copy of every part that meets it."""
    covered = 0
    seen: set[Box] = set()
    for (theirs, _), copies in sorted(sources.items()):
        shared = tuple((max(a, c), min(b, d)) for (a, b), (c, d) in zip(theirs, box))
        if any(a >= b for a, b in shared):
            continue
        add: bool | str = (source.reduce == "sum" or source.reduce) if shared in seen else False
        if shared not in seen:
            covered += prod(b - a for a, b in shared)
            seen.add(shared)
        part = _nearest(source, copies, rank)
        owner = int(source.grid.devices[part])
        time = tuple(part[d] for d in source.grid.time_dims)
        there, here = _relative(shared, theirs), _relative(shared, box)
        sender = plan.setdefault(owner, _Draft())
        sender.slots[time] = tuple(b - a for a, b in theirs)
        if owner == rank:
            sender.local.append((time, there, here, add))
        else:
            sender.send.append((time, there, rank))
            plan[rank].recv.append((owner, here, add))
    assert covered == prod(b - a for a, b in box), "the parts do not cover the reader's box"


def _nearest(source: Layout, copies: list[Part], rank: int) -> Part:
    """The copy on the rank itself, else one that spreads the load over the owners."""
    owners = [int(source.grid.devices[p]) for p in copies]
    if rank in owners:
        return copies[owners.index(rank)]
    return copies[rank % len(copies)]


def _relative(box: Box, base: Box) -> Box:
    return tuple((a - c, b - c) for (a, b), (c, _) in zip(box, base))

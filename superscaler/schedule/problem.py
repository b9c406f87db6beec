"""Problem: what a scheduler is given: works on lanes, what waits for what, memory held over time.

It knows nothing of graphs: the compiler makes one from a program, a benchmark from a list of costs.
Times are whole ticks, memory whole bytes, so that solver, replay and validator agree exactly.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property


class Kind(StrEnum):
    """What a work is."""

    FORWARD = "F"
    BACKWARD = "B"  # what some other stage waits for: input gradients
    WEIGHT = "W"  # what nothing but the update waits for: weight gradients
    FUSED = "BW"  # both in one
    UPDATE = "U"
    COMMUNICATION = "C"
    COPY = "H"  # between device and host
    OTHER = "X"


@dataclass(frozen=True, slots=True)
class Lane:
    """A resource that runs one work at a time: a device's compute, a link, a copy engine.

    `devices` are all that this lane stands for: devices that do the same at the same times fold
    into one lane. `kind` is "compute", "copy in", "copy out" or a link's name.
    """

    devices: tuple[int, ...]
    kind: str = "compute"

    @property
    def name(self) -> str:
        """The first device, and the kind unless it is compute: `3`, `3:nvlink`."""
        return f"{self.devices[0]}" + ("" if self.kind == "compute" else f":{self.kind}")


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes that holds share: `resident` of `capacity` are taken all the time."""

    devices: tuple[int, ...]
    capacity: int
    resident: int = 0
    kind: str = "device"  # or "host"


@dataclass(frozen=True, slots=True)
class Work:
    """Something to run without a break, for `duration` ticks, on all its `lanes` at once.

    `stage` and `microbatch` are -1 where they have no meaning. `chain` tells several chains of
    stages over the same devices apart (two directions, an encoder beside a decoder).
    """

    name: str
    kind: Kind
    stage: int
    microbatch: int
    lanes: tuple[int, ...]
    duration: int
    chain: int = 0

    @property
    def family(self) -> tuple[Kind, int, int]:
        """Works of one family differ in their microbatch only."""
        return (self.kind, self.stage, self.chain)


@dataclass(frozen=True, slots=True)
class Edge:
    """`after` starts `latency` ticks or more after `before` ends; `kind` is "data" or "order"."""

    before: int
    after: int
    latency: int = 0
    kind: str = "data"


@dataclass(frozen=True, slots=True)
class Hold:
    """`amount` bytes of a memory, from the earliest start of `first` to the last end of `last`."""

    memory: int
    amount: int
    first: tuple[int, ...]
    last: tuple[int, ...]
    name: str = ""


@dataclass(frozen=True)
class Problem:
    """Works (numbered by position), lanes and memories likewise; `tick_us` is a tick's length."""

    lanes: tuple[Lane, ...]
    works: tuple[Work, ...]
    edges: tuple[Edge, ...]
    memories: tuple[Memory, ...] = ()
    holds: tuple[Hold, ...] = ()
    tick_us: float = 1.0

    @cached_property
    def incoming(self) -> tuple[tuple[Edge, ...], ...]:
        """Per work: the edges that end at it."""
        return _by(len(self.works), ((e.after, e) for e in self.edges))

    @cached_property
    def outgoing(self) -> tuple[tuple[Edge, ...], ...]:
        """Per work: the edges that start at it."""
        return _by(len(self.works), ((e.before, e) for e in self.edges))

    @cached_property
    def on_lane(self) -> tuple[tuple[int, ...], ...]:
        """Per lane: the works that it runs, by number."""
        found: list[list[int]] = [[] for _ in self.lanes]
        for number, work in enumerate(self.works):
            for lane in work.lanes:
                found[lane].append(number)
        return tuple(tuple(works) for works in found)

    @cached_property
    def number(self) -> dict[str, int]:
        """Name -> number of a work."""
        return {work.name: i for i, work in enumerate(self.works)}


def _by(count: int, pairs: Iterable[tuple[int, Edge]]) -> tuple[tuple[Edge, ...], ...]:
    found: list[list[Edge]] = [[] for _ in range(count)]
    for at, edge in pairs:
        found[at].append(edge)
    return tuple(tuple(edges) for edges in found)


@dataclass(frozen=True)
class Schedule:
    """When every work starts, in ticks, and how good that is known to be.

    `status`: "optimal" (no schedule is shorter), "feasible" (a solver's best when time ran out) or
    "heuristic" (a known order). `bound`: no schedule is shorter than this, as far as is proven.
    `made_by` names the order or solver route that it comes from.
    """

    start: tuple[int, ...]
    length: int  # ticks: what was minimised
    bound: int
    status: str
    made_by: str
    seconds: float = 0.0
    notes: tuple[str, ...] = field(default=())

    @property
    def gap(self) -> float:
        """How much shorter, relative to `length`, a better schedule might be: 0 when optimal."""
        return (self.length - self.bound) / self.length if self.length else 0.0

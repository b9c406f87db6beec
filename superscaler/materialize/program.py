"""Program: what every rank runs, before it is written as text."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from superscaler.materialize.conversion import Route
from superscaler.schedule.linear import Timed
from superscaler.schedule.tasks import TaskGraph
from superscaler.transform.layout import Layout
from superscaler.transform.partition import Partition

BOUNDARY = -1


@dataclass(frozen=True, slots=True)
class ValueRef:
    """A value by name, and which of its time keys: per key position, a position in the reading
    task's time index (int >= 0) or, as (n,), the constant n."""

    name: str
    time: tuple[int | tuple[int], ...]


@dataclass(frozen=True)
class Read:
    """Where an operator finds one input: the value, and the slots to cut its own interval from."""

    value: ValueRef
    conversion: int = -1  # its number, when the value is a converted one
    cut: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Conversion:
    """Tensor `tensor` brought along `route`.

    `scope` is the segment inside whose tasks it runs, or BOUNDARY: between tasks. Inside a segment
    it runs right after the operator that makes the value (`at_producer`) or before the first
    operator that reads it. `source_name` is the value it reads ("" at rest: see Own). `into` is the
    value that its results of several times are reduced into as they come: the name, the kept time
    positions, sum or max.
    """

    id: int
    tensor: int
    route: Route
    scope: int
    at_producer: bool
    source_name: str
    into: tuple[str, tuple[int, ...], str] | None = None

    @property
    def name(self) -> str:
        return f"c{self.id}"


@dataclass(frozen=True)
class Own:
    """A part of a tensor that a rank has before the step: of a parameter, buffer or batch leaf.

    `keys`: the positions in the reading tasks' time index that the part depends on.
    """

    name: str
    tensor: int
    layout: Layout
    keys: tuple[int, ...]
    trained: bool = False


@dataclass(frozen=True)
class Result:
    """A value the step hands back, whole, on `owner` (and where else it happens to be)."""

    name: str
    tensor: int
    value: ValueRef
    owner: int


@dataclass(frozen=True)
class Program:
    """The compiled step: tasks in order, and every read, conversion and owned part."""

    partition: Partition
    tasks: TaskGraph
    timed: Timed
    reads: dict[tuple[int, int], Read]
    conversions: tuple[Conversion, ...]
    owned: tuple[Own, ...]
    accumulated: dict[
        int, tuple[tuple[str, tuple[int, ...], str], ...]
    ]  # tensor -> (name, kept time positions, sum or max)
    results: tuple[Result, ...]
    new_buffers: tuple[
        tuple[int, ValueRef, str], ...
    ]  # buffer, its new value, the owned buffer's name
    notes: tuple[str, ...] = field(default=())

    def inline_of(self, segment: int) -> tuple[Conversion, ...]:
        """The conversions inside a segment."""
        return self._by_scope.get(segment, ())

    @cached_property
    def _by_scope(self) -> dict[int, tuple[Conversion, ...]]:
        found: dict[int, list[Conversion]] = {}
        for conversion in self.conversions:
            found.setdefault(conversion.scope, []).append(conversion)
        return {scope: tuple(cs) for scope, cs in found.items()}

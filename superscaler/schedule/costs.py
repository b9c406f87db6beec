"""Costs: what the scheduler is told of a program: durations, transfers and the bytes it holds."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Transfer:
    """What segment `source` makes reaches segment `reader` `latency_us` after it was made."""

    source: int
    reader: int
    latency_us: float


@dataclass(frozen=True, slots=True)
class Reader:
    """A segment that reads a value: `sources` as in TimeMatch, -1 (the first) and -2 (all)."""

    segment: int
    sources: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Held:
    """`num_bytes` on each device of segment `home`, made by segment `source`, alive until the last
    of `readers` is through. `is_sum`: parts in time are added up in place."""

    source: int
    home: int
    readers: tuple[Reader, ...]
    num_bytes: int
    is_sum: bool = False


@dataclass(frozen=True)
class StepCosts:
    """Per segment its duration and the bytes that it needs only while it runs; transfers; values
    held between tasks; per device what rests on it and what it can hold."""

    duration_us: tuple[float, ...]
    temporary_bytes: tuple[int, ...]
    transfers: tuple[Transfer, ...] = ()
    held: tuple[Held, ...] = ()
    resident_bytes: dict[int, int] = field(default_factory=dict)
    capacity_bytes: dict[int, int] = field(default_factory=dict)

"""Costs: what the scheduler is told of a program: durations, transfers and the bytes it holds."""

from __future__ import annotations

from dataclasses import dataclass, field

Part = tuple[int, tuple[int, ...]]  # a segment and a time index: a task


@dataclass(frozen=True, slots=True)
class Transfer:
    """What the tasks `sources` make (none: what rests on devices) reaches the tasks `readers`:
    `duration_us` on link `link` of each of `devices`. Of that, `latency_us` is once for all that
    travel together."""

    sources: tuple[Part, ...]
    readers: tuple[Part, ...]
    devices: tuple[int, ...]
    link: str
    duration_us: float
    latency_us: float = 0.0


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

"""Summary: a recorded call as pieces between its communications, with its memory relative."""

from __future__ import annotations

from dataclasses import dataclass, field

from superscaler.simulate.recording.record import (
    EndSends,
    Free,
    Post,
    Record,
    Run,
    Step,
    Take,
    Wait,
)
from superscaler.simulate.scripts.script import Curve, thinned


@dataclass(frozen=True, slots=True)
class Piece:
    """Work for `us`, with the bytes alive relative to the call's start; then what `ends` it."""

    us: float
    curve: Curve
    ends: Post | Wait | None


@dataclass(frozen=True, slots=True)
class Summary:
    """The pieces; `peak` (the most) and `left` (at the end) are relative to the call's start, those
    of host memory likewise."""

    pieces: tuple[Piece, ...]
    peak: int
    left: int
    host_peak: int
    host_left: int


@dataclass
class Builder:
    """Goes through steps and makes the pieces.

    `frees` tells, for a storage that is given back, how many bytes become free: 0 where others
    still use it. `sizes` has the bytes of the storages so far, `in_host` those in host memory.
    """

    sizes: dict[int, int]
    frees: dict[int, bool]
    in_host: set[int]
    level: int = 0
    peak: int = 0
    host_level: int = 0
    host_peak: int = 0
    us: float = 0.0
    points: list[tuple[float, int]] = field(default_factory=list)
    pieces: list[Piece] = field(default_factory=list)

    def step(self, step: Step) -> None:
        if isinstance(step, Run):
            self.us += step.us
        elif isinstance(step, Take):
            self.sizes[step.storage] = step.num_bytes
            self.in_host |= {step.storage} if step.in_host else set()
            self._change(step.storage, step.num_bytes)
        elif isinstance(step, Free):
            if self.frees.get(step.storage, True):
                self._change(step.storage, -self.sizes[step.storage])
        elif not isinstance(step, EndSends):
            self.cut(step)

    def _change(self, storage: int, num_bytes: int) -> None:
        if storage in self.in_host:
            self.host_level += num_bytes
            self.host_peak = max(self.host_peak, self.host_level)
            return
        self.level += num_bytes
        self.peak = max(self.peak, self.level)
        self.points.append((self.us, self.level))

    def cut(self, ends: Post | Wait | None) -> None:
        """End the piece."""
        self.pieces.append(Piece(self.us, thinned(self.points), ends))
        self.us, self.points = 0.0, []


def summarised(
    record: Record,
    given_bytes: tuple[int, ...],
    frees: tuple[bool, ...],
    in_host: tuple[bool, ...] = (),
) -> Summary:
    """The call, where given storage i has `given_bytes[i]` and is freed by it if `frees[i]`."""
    hosted = {i for i, is_there in enumerate(in_host) if is_there}
    builder = Builder(dict(enumerate(given_bytes)), dict(enumerate(frees)), hosted)
    for step in record.steps:
        builder.step(step)
    if builder.us or builder.points or not builder.pieces:
        builder.cut(None)
    levels = (builder.peak, builder.level, builder.host_peak, builder.host_level)
    return Summary(tuple(builder.pieces), *levels)

"""Script: what one rank does in a step, in order, with the bytes alive at every moment.

Ranks that run one program with constants of one form have one script; who they talk to is looked
up for each (`fold`). Times are those of the work itself: when it happens is for `engine`.
"""

from __future__ import annotations

from dataclasses import dataclass

from superscaler.simulate.recording.record import Communication
from superscaler.simulate.simulation import Holder

Curve = tuple[tuple[float, int], ...]  # (us from the start, bytes alive from then on)
EVERYONE = "everyone"  # in place of a constant: the results go to all ranks
SHARING = "sharing"  # the function in which they do so on a rank that calls no other


@dataclass(frozen=True, slots=True)
class Compute:
    """Work on the compute lane in call number `call`, and the memory while it lasts."""

    us: float
    call: int
    curve: Curve


@dataclass(frozen=True, slots=True)
class Start:
    """Communication number `post` of the script starts."""

    post: int


@dataclass(frozen=True, slots=True)
class Await:
    """Call number `call` goes on when communication number `post` is over."""

    post: int
    call: int


Action = Compute | Start | Await


@dataclass(frozen=True, slots=True)
class Posting:
    """A communication of a script: what it is, in which call it starts."""

    communication: Communication
    call: int


@dataclass(frozen=True, slots=True)
class Call:
    """An entry of the schedule; `doc` says what a communication moves."""

    function: str
    time: tuple[int, ...]
    doc: str = ""


@dataclass(frozen=True)
class Script:
    """A rank's step: `resident_bytes` of parameters, states and buffers are part of every level."""

    calls: tuple[Call, ...]
    actions: tuple[Action, ...]
    postings: tuple[Posting, ...]
    resident_bytes: int
    peak_bytes: int
    holders: tuple[Holder, ...]
    host_peak_bytes: int = 0


def thinned(points: list[tuple[float, int]], count: int = 12) -> Curve:
    """A curve of at most 2 `count` points with the same largest and last level.

    >>> thinned([(0.0, 1), (1.0, 9), (2.0, 3), (8.0, 4)], 2)
    ((1.0, 9), (2.0, 3), (8.0, 4))
    """
    if not points:
        return ()
    width = (points[-1][0] - points[0][0]) / count
    kept: list[tuple[float, int]] = []
    bucket: list[tuple[float, int]] = []
    for point in points:
        if bucket and point[0] >= bucket[0][0] + width and point[0] > bucket[-1][0]:
            kept += _ends(bucket)
            bucket = []
        bucket.append(point)
    return tuple(kept + _ends(bucket))


def _ends(bucket: list[tuple[float, int]]) -> list[tuple[float, int]]:
    """The largest and the last of a few points, in order."""
    top = max(bucket, key=lambda point: point[1])
    return [top] if top is bucket[-1] or top == bucket[-1] else [top, bucket[-1]]

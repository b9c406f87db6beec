"""Time matching: which parts of a producer, in time, a reader's part waits for."""

from __future__ import annotations

from dataclasses import dataclass

from superscaler.transform.layout import Layout
from superscaler.transform.partition import REPLICATE, VALUE


@dataclass(frozen=True, slots=True)
class TimeMatch:
    """How the time dims of a producer's grid relate to those of a reader's.

    `sources[i]` belongs to producer time dim i: the position of the reader's time dim that it
    equals, or -1 when it is fixed at index 0 (all parts hold the same), or -2 when the reader needs
    the parts at every index. `is_mixing` tells that some are: the reader waits for several parts.
    """

    sources: tuple[int, ...]

    @property
    def is_mixing(self) -> bool:
        return ALL in self.sources

    @property
    def is_aligned(self) -> bool:
        """Reader part t needs producer part t and no other."""
        return self.sources == tuple(range(len(self.sources)))


FIRST = -1
ALL = -2


def match_time(producer: Layout, reader: Layout) -> TimeMatch:
    """The time match of two layouts of one tensor."""
    pairs = _split_pairs(producer, reader)
    same = producer.grid.key == reader.grid.key
    position = {d: k for k, d in enumerate(reader.grid.time_dims)}
    sources = []
    for d in producer.grid.time_dims:
        role = producer.roles[d]
        if d in pairs:
            sources.append(position[pairs[d]])
        elif same and (role == REPLICATE or role == VALUE == reader.roles[d]):
            sources.append(position[d])
        elif producer.grid.shape[d] == 1 or role == REPLICATE:
            sources.append(FIRST)
        else:
            sources.append(ALL)
    return TimeMatch(tuple(sources))


def _split_pairs(producer: Layout, reader: Layout) -> dict[int, int]:
    """Producer time dim -> reader time dim that cuts the same slot at the same places.

    Splits of a slot nest, so the outer ones must cut alike too, in time or in space. Turned dims
    are alike only on one grid.
    """
    pairs: dict[int, int] = {}
    same = producer.grid.key == reader.grid.key
    turned = {d for layout in (producer, reader) for d, _ in layout.grid.turns}
    for slot in range(len(producer.sizes)):
        mine = [d for d, r in enumerate(producer.roles) if r == slot]
        theirs = [d for d, r in enumerate(reader.roles) if r == slot]
        for a, b in zip(mine, theirs):
            if producer.grid.shape[a] != reader.grid.shape[b]:
                break
            if {a, b} & turned and not (same and a == b):
                break
            if a in producer.grid.time_dims and b in reader.grid.time_dims:
                pairs[a] = b
    return pairs

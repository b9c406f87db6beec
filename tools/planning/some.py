"""Some: plans that treat as few blocks as the memory allows in a way that takes less of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import astuple, dataclass, replace
from itertools import combinations

from planning.cells import Cell
from planning.conventional import MICROBATCHES, Candidate
from planning.thin import Floor

COSHARD = {"coshard": 1, "coshard in 4": 4}
OFFLOAD = "offload"  # what the backward reads, and optimizer states, wait in host memory
TREATMENTS = ("", OFFLOAD, "coshard", "recompute", "coshard in 4")  # the faster the earlier
AHEAD = 64  # copies that are under way at once
QUARTERS = (1, 2, 3)
TRIES = 5  # of numbers of blocks
MIXES = 8  # that are tried

FloorOf = Callable[[Candidate], Floor | None]  # None: the plan is refused
PeakOf = Callable[[Candidate], float | None]


@dataclass(frozen=True)
class Mix:
    """A plan without a pipeline, its blocks in `groups` treated in two ways: floors of none and of
    all in the one that is slower and `small`; about how many have to be for the memory (`count`),
    and how many at `least`, as with fewer the copies of the others would be waited for."""

    base: Candidate
    fast: str
    small: str
    few: Floor
    many: Floor
    groups: int
    count: int = 0
    least: int = 0

    def told(self, count: int) -> Floor:
        """As blocks are alike, the two ends tell what is between them."""
        share = count / self.groups
        ends = zip(astuple(self.few), astuple(self.many))
        return Floor(*(a + share * (b - a) for a, b in ends))

    def takes_us(self, count: int) -> float:
        """A floor of its step: devices compute, or copy."""
        told = self.told(count)
        return max(told.step_us, told.copy_us)

    @property
    def step_us(self) -> float:
        return self.takes_us(self.count)

    def settled(self, capacity: float, host_capacity: float) -> Mix | None:
        """With the numbers of groups that suit the memories; None where none does."""
        kept = [n for n in range(self.groups + 1) if self.told(n).host_bytes <= host_capacity]
        fitting = [n for n in kept if self.told(n).peak_bytes <= capacity]
        if not fitting:
            return None
        count, least = (min(counts, key=self.takes_us) for counts in (fitting, kept))
        return replace(self, count=count, least=least)

    def at(self, cell: Cell, count: int) -> Candidate:
        """The large blocks and `count` groups of the others in the one way, the rest in the other.
        What is offloaded comes first: there is most time for its copies."""
        return _treated(cell, self.base, self.fast, self.small, count)


def mixes(
    cell: Cell,
    bases: Iterable[tuple[float, Candidate]],
    floor_of: FloorOf,
    capacity: float,
    host_capacity: float,
    to_beat: float,
) -> list[Mix]:
    """The best `MIXES` that may be shorter than `to_beat` (us), the shortest first. `bases` come
    with what they take at least, the fastest first."""
    found: list[Mix] = []
    for least_us, base in bases:
        if least_us >= to_beat:
            break
        for fast, small in combinations(TREATMENTS, 2):
            mix = _mix(cell, base, fast, small, floor_of, capacity)
            settled = mix.settled(capacity, host_capacity) if mix else None
            if settled and settled.step_us < to_beat:
                found = sorted([*found, settled], key=lambda mix: mix.step_us)[:MIXES]
                to_beat = found[-1].step_us if len(found) == MIXES else to_beat
    return found


def _mix(
    cell: Cell, base: Candidate, fast: str, small: str, floor_of: FloorOf, capacity: float
) -> Mix | None:
    """None where it is refused, or where all blocks in the small way take more than there is (they
    may, beside offloaded ones: these can be too many for the host alone)."""
    many = _end(cell, base, fast, small, cell.grain, floor_of)
    if many is None or (fast != OFFLOAD and many.peak_bytes > capacity):
        return None
    few = _end(cell, base, fast, small, 0, floor_of)
    return few and Mix(base, fast, small, few, many, cell.grain)


def _end(
    cell: Cell, base: Candidate, fast: str, small: str, count: int, floor_of: FloorOf
) -> Floor | None:
    """The floor of a mix. That of its step is without waiting for copies, which are beside it."""
    found = floor_of(_treated(cell, base, fast, small, count))
    if found is None or OFFLOAD not in (fast, small):
        return found
    fast, small = (way.replace(OFFLOAD, "") for way in (fast, small))
    kept = floor_of(_treated(cell, base, fast, small, count))
    return kept and replace(found, step_us=kept.step_us)


def fewest(cell: Cell, mix: Mix, peak_of: PeakOf, capacity: float) -> list[Candidate]:
    """The candidates tried, from the number of groups that floors tell on, until the fewest that
    fit are known; between two that were tried, the peak is taken to fall evenly."""
    low = mix.least - 1, mix.told(mix.least).peak_bytes  # too few
    high = mix.groups + 1, mix.many.peak_bytes  # enough
    found: list[Candidate] = []
    count = mix.count
    while high[0] - low[0] > 1 and len(found) < TRIES:
        candidate = mix.at(cell, count)
        found.append(candidate)
        peak = peak_of(candidate)
        if peak is None:
            break
        low, high = ((count, peak), high) if peak > capacity else (low, (count, peak))
        share = (low[1] - capacity) / max(1.0, low[1] - high[1])
        count = low[0] + math.ceil(share * (high[0] - low[0]))
        count = min(max(count, low[0] + 1), high[0] - 1)
    return found


def of_first_blocks(cell: Cell, best: Iterable[Candidate]) -> list[Candidate]:
    """Of good pipelines that co-shard all blocks: those that do so with the first."""
    found = []
    for c in best:
        if c.base is None or c.stages == 1:
            continue
        for n in QUARTERS:
            first = _joined(cell.large, cell.some_blocks(0, cell.grain * n // 4))
            text = c.text.replace(f"where={cell.blocks!r}", f"where={first!r}")
            found.append(replace(c, text=text, whole=c))
    return found


def _joined(*patterns: str) -> str:
    return " ".join(p for p in patterns if p)


def _treated(cell: Cell, base: Candidate, fast: str, small: str, count: int) -> Candidate:
    start = cell.grain - count if fast == OFFLOAD else 0
    some = _joined(cell.large, cell.some_blocks(start, start + count))
    rest = _joined(cell.some_blocks(0, start), cell.some_blocks(start + count, cell.grain))
    if not some or count == cell.grain:
        some, rest = (cell.blocks, "") if some else ("", cell.blocks)
    text, inside = (
        _text(_text(plan, small, some), fast, rest) for plan in (base.text, base.inside)
    )
    return replace(base, text=text, inside=inside, is_plain=False)


def _text(plan: str, way: str, patterns: str) -> str:
    """A plan with these blocks treated in this way."""
    if not patterns or not way:
        return plan
    if way == "recompute":
        return plan.replace(MICROBATCHES, f"recompute={patterns!r}, {MICROBATCHES}", 1)
    if way == OFFLOAD:
        return f"offload({plan}, activations={patterns!r}, optimizer=True, ahead={AHEAD})"
    return f"coshard({plan}, parts={COSHARD[way]}, where={patterns!r})"

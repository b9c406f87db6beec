"""Some: plans that treat as few blocks as the memory allows in a way that takes less of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import combinations

from planning.cells import Cell
from planning.conventional import MICROBATCHES, Candidate
from planning.thin import Floor

COSHARD = {"coshard": 1, "coshard in 4": 4}
TREATMENTS = ("", "coshard", "recompute", "coshard in 4")  # the faster the earlier
QUARTERS = (1, 2, 3)
TRIES = 5  # of numbers of blocks

FloorOf = Callable[[Candidate], Floor | None]  # None: the plan is refused
PeakOf = Callable[[Candidate], float | None]


@dataclass(frozen=True)
class Mix:
    """A plan without a pipeline, its blocks treated in two ways: floors of none and of all in the
    one that is slower and `small`, and about how many have to be for the memory."""

    base: Candidate
    fast: str
    small: str
    few: Floor
    many: Floor
    count: int
    step_us: float

    def at(self, cell: Cell, count: int) -> Candidate:
        """The large blocks and the first `count` groups of the others in the one way, the rest in
        the other."""
        return _treated(cell, self.base, self.fast, self.small, count)


def mixes(
    cell: Cell, bases: Iterable[Candidate], floor_of: FloorOf, capacity: float, to_beat: float
) -> list[Mix]:
    """Those of the bases that may be shorter than `to_beat` (us), the shortest first.

    As blocks are alike, two ends tell how many have to be treated, and how long the step is.
    """
    found: list[Mix] = []
    rows = cell.grain
    for base in bases:
        for fast, small in combinations(TREATMENTS, 2):
            few, many = (floor_of(_treated(cell, base, fast, small, n)) for n in (0, rows))
            if few is None or many is None or many.peak_bytes > capacity:
                continue
            over, falls = few.peak_bytes - capacity, few.peak_bytes - many.peak_bytes
            count = -int(-rows * over // falls) if over > 0 else 0
            step_us = few.step_us + count / rows * (many.step_us - few.step_us)
            if step_us < to_beat:
                found.append(Mix(base, fast, small, few, many, count, step_us))
    return sorted(found, key=lambda mix: mix.step_us)


def fewest(cell: Cell, mix: Mix, peak_of: PeakOf, capacity: float) -> list[Candidate]:
    """The candidates tried, from the number of groups that floors tell on, until the fewest that
    fit are known; between two that were tried, the peak is taken to fall evenly."""
    low, high = (-1, mix.few.peak_bytes), (cell.grain + 1, mix.many.peak_bytes)  # too few, enough
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
    first = _joined(cell.large, cell.some_blocks(0, count))
    rest = cell.some_blocks(count, cell.grain) if first else cell.blocks
    if count == cell.grain:
        first, rest = cell.blocks, ""
    text, inside = (
        _text(_text(plan, small, first), fast, rest) for plan in (base.text, base.inside)
    )
    return replace(base, text=text, inside=inside, is_plain=False)


def _text(plan: str, way: str, patterns: str) -> str:
    """A plan with these blocks treated in this way."""
    if not patterns or not way:
        return plan
    if way == "recompute":
        return plan.replace(MICROBATCHES, f"recompute={patterns!r}, {MICROBATCHES}", 1)
    return f"coshard({plan}, parts={COSHARD[way]}, where={patterns!r})"

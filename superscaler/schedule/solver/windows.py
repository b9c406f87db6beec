"""Windows: a long schedule made shorter some microbatches at a time.

All microbatches before a window stay where they are, and all after it come earlier together, at
the same distances; those inside CP-SAT places freely. Mostly it proves its best in a second, where
it gets nowhere with the whole.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

from ortools.sat.python import cp_model

from superscaler.schedule.bound import Limits
from superscaler.schedule.problem import Problem
from superscaler.schedule.replay import length
from superscaler.schedule.solver.between import Between
from superscaler.schedule.solver.settings import Settings

EACH = 0.12  # the share of the time that one window may take
WIDTHS = (2, 3)  # rounds in a window: those that run at once, then one more


def improve_by_windows(
    between: Between, size: int, settings: Settings, seconds_left: Callable[[], float]
) -> None:
    """Shortens the best schedule: windows of a few rounds of `size` microbatches, at both ends
    first, until none helps, it is the shortest, or no seconds are left. Its memories must be
    decided by links.
    """
    count = 1 + max(w.microbatch for w in between.problem.works)
    is_better = True
    while is_better:
        is_better = False
        for window in _windows(count, size):
            left = seconds_left()
            if left <= 0 or not between.open:
                return
            cp, starts = _shortest(between.problem, between.limits, between.best.start, window)
            solver = settings.within(min(left, settings.time_limit_s * EACH)).solver()
            is_better |= between.improve(solver, cp, starts, "windows")


def _windows(count: int, size: int) -> Iterator[tuple[int, int]]:
    """(first microbatch, end) of windows of each width: the ends of time, then what is between."""
    for width in WIDTHS:
        wide = width * size
        firsts = range(0, max(count - wide, 0) + 1, size)
        yield from sorted(((f, f + wide) for f in firsts), key=lambda w: min(w[0], count - w[1]))


def _shortest(
    problem: Problem, limits: Limits, start: Sequence[int], window: tuple[int, int]
) -> tuple[cp_model.CpModel, list[cp_model.LinearExprT]]:
    """A model of schedules that are the same before the window, to minimize; their starts."""
    cp = cp_model.CpModel()
    most = length(problem, start)
    starts = _starts(cp, problem, limits, start, window)
    total = cp.new_int_var(0, most, "length")
    cp.add_hint(total, most)
    parts = [_part(work.microbatch, window) for work in problem.works]
    for a, waits in enumerate(limits.links.after):
        end = starts[a] + problem.works[a].duration
        cp.add(total >= end + limits.tails[a])
        for b, latency in waits:
            if parts[a] != parts[b] or parts[a] == 0:
                cp.add(starts[b] >= end + latency)
    lanes: dict[int, list[cp_model.IntervalVar]] = defaultdict(list)
    for n, work in enumerate(problem.works):
        if work.duration:
            run = cp.new_fixed_size_interval_var(starts[n], work.duration, work.name)
            for lane in work.lanes:
                lanes[lane].append(run)
    for runs in lanes.values():
        cp.add_no_overlap(runs)
    cp.minimize(total)
    return cp, starts


def _starts(
    cp: cp_model.CpModel,
    problem: Problem,
    limits: Limits,
    start: Sequence[int],
    window: tuple[int, int],
) -> list[cp_model.LinearExprT]:
    """start_i as it was before the window, as it was less one number after it, free inside."""
    most = length(problem, start)
    earlier = cp.new_int_var(0, most, "earlier")
    cp.add_hint(earlier, 0)
    found: list[cp_model.LinearExprT] = []
    for n, work in enumerate(problem.works):
        part = _part(work.microbatch, window)
        if part < 0:
            found.append(start[n])
        elif part > 0:
            cp.add(earlier <= start[n] - limits.heads[n])
            found.append(start[n] - earlier)
        else:
            latest = max(start[n], most - work.duration - limits.tails[n])
            variable = cp.new_int_var(min(start[n], limits.heads[n]), latest, work.name)
            cp.add_hint(variable, start[n])
            found.append(variable)
    return found


def _part(microbatch: int, window: tuple[int, int]) -> int:
    """-1 before the window, 1 after it, 0 inside; a work without a microbatch is free."""
    if microbatch < 0 or window[0] <= microbatch < window[1]:
        return 0
    return -1 if microbatch < window[0] else 1

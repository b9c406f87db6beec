"""Swing: list schedules by urgency, from the start of time and from its end in turn.

Where memory is decided by links alone a problem is a job shop with heads and tails, and swinging a
schedule to and fro (Li and Willis, 1992) mostly meets the bound in milliseconds.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from itertools import product

from superscaler.schedule.bound import Limits, bound_by
from superscaler.schedule.links import Waits, reverse
from superscaler.schedule.memory import fits
from superscaler.schedule.problem import Problem, Schedule
from superscaler.schedule.replay import length
from superscaler.schedule.solver.quota import with_quotas

TARGETS = 4  # lengths that a patient list aims at, from the bound up
SWINGS = 6
TILTS = (0.5, 0.8, 1.0, 1.2)
QUICK_TILTS = (0.8, 1.0)


def swing(
    problem: Problem, limits: Limits, objective: str, enough: int, *, is_quick: bool = False
) -> Schedule | None:
    """The best of the list schedules that fit the memory; stops at one as short as `enough`.
    `is_quick`: of a few of them.

    None where no list schedule fits.
    """
    best: Schedule | None = None
    for start in _starts(problem, limits, is_quick):
        size = length(problem, start, objective)
        if (best is None or size < best.length) and fits(problem, start):
            best = Schedule(tuple(start), size, enough, "heuristic", "swing")
            if size <= enough:
                break
    return best


def _starts(problem: Problem, limits: Limits, is_quick: bool) -> Iterator[list[int]]:
    tilts = QUICK_TILTS if is_quick else TILTS
    ways = [(False, 0), (False, 1)] if is_quick else list(product((False, True), (0, 1)))
    for tight in _decided(problem, limits, tilts):
        for patient, way in ways:
            yield from _aimed(problem, tight, patient, way)


def _decided(problem: Problem, limits: Limits, tilts: Sequence[float]) -> Iterator[Limits]:
    """Limits whose links alone decide the memory."""
    if not limits.links.loose:
        yield limits
        return
    for tilt in tilts:
        found = with_quotas(problem, limits, tilt)
        if found is not None:
            yield found


def _aimed(problem: Problem, limits: Limits, patient: bool, way: int) -> Iterator[list[int]]:
    """List schedules for lengths from the bound up; what is first does not depend on the length
    unless a list is patient."""
    bound = bound_by(problem, limits)
    ways = (limits.links.after, reverse(limits.links.after))
    durations = [w.duration for w in problem.works]
    tails = (limits.tails, limits.heads)[way]
    target = bound
    for _ in range(TARGETS if patient else 1):
        latest = [target - t - d for t, d in zip(tails, durations)]
        start = list_schedule(problem, ways[way], latest, patient)
        yield from _swung(problem, ways, way, start)
        found = max(s + d for s, d in zip(start, durations))
        target += max(1, (found - bound) // 4)


def _swung(
    problem: Problem, ways: tuple[Waits, Waits], way: int, start: list[int]
) -> Iterator[list[int]]:
    """A schedule, and what becomes of it when what ends last goes first on the way back."""
    sizes: list[int] = []
    for _ in range(SWINGS + 1):
        mirrored = _mirrored(problem, start)
        yield mirrored if way else start
        sizes.append(length(problem, start))
        if len(sizes) > 2 and sizes[-1] >= sizes[-3]:
            return
        way = 1 - way
        start = list_schedule(problem, ways[way], mirrored, False)


def _mirrored(problem: Problem, start: Sequence[int]) -> list[int]:
    """Starts as seen from the other end of time."""
    ends = [s + w.duration for s, w in zip(start, problem.works)]
    last = max(ends, default=0)
    return [last - e for e in ends]


def list_schedule(
    problem: Problem, after: Waits, latest: Sequence[int], patient: bool
) -> list[int]:
    """Whenever a lane is free it runs, of what is ready, the work that must start first.

    `patient`: unless this would keep from its latest start a work that is known to come.
    """
    return _List(problem, after, latest, patient).run()


class _List:
    """Time goes from event to event: works that become ready, lanes that become free."""

    def __init__(
        self, problem: Problem, after: Waits, latest: Sequence[int], patient: bool
    ) -> None:
        self.after, self.latest, self.patient = after, latest, patient
        self.duration = [w.duration for w in problem.works]
        self.lanes = [w.lanes for w in problem.works]
        self.lane = [w.lanes[0] for w in problem.works]  # where it waits for its turn
        self.start = [0] * len(after)
        self.free = [0] * len(problem.lanes)
        self.ready: list[list[tuple[int, int]]] = [[] for _ in problem.lanes]
        self.soon: list[dict[int, int]] = [{} for _ in problem.lanes]  # work -> ready at
        self.coming: list[tuple[int, int]] = []
        self.events = [0]
        self.waiting = [0] * len(after)
        self.possible = [0] * len(after)
        for waits in after:
            for b, _ in waits:
                self.waiting[b] += 1

    def run(self) -> list[int]:
        for w, count in enumerate(self.waiting):
            if not count:
                self._announce(w)
        now = -1
        while self.events:
            now, before = heapq.heappop(self.events), now
            if now == before and not (self.coming and self.coming[0][0] <= now):
                continue
            while self.coming and self.coming[0][0] <= now:
                _, w = heapq.heappop(self.coming)
                self.soon[self.lane[w]].pop(w)
                heapq.heappush(self.ready[self.lane[w]], (self.latest[w], w))
            for lane, ready in enumerate(self.ready):
                while ready and self.free[lane] <= now and self._begin(lane, now):
                    pass
        return self.start

    def _announce(self, w: int) -> None:
        at = self.possible[w]
        heapq.heappush(self.coming, (at, w))
        heapq.heappush(self.events, at)
        self.soon[self.lane[w]][w] = at

    def _begin(self, lane: int, now: int) -> bool:
        """Starts a work if one should; whether it did."""
        w = self._possible_choice(lane, now)
        if w < 0:
            return False
        self.start[w] = now
        end = now + self.duration[w]
        for taken in self.lanes[w]:
            self.free[taken] = end
        heapq.heappush(self.events, end)
        for b, latency in self.after[w]:
            self.possible[b] = max(self.possible[b], end + latency)
            self.waiting[b] -= 1
            if not self.waiting[b]:
                self._announce(b)
        return True

    def _possible_choice(self, lane: int, now: int) -> int:
        """The work to begin, of those whose other lanes are free as well; -1: none."""
        later: list[tuple[int, int]] = []
        w = -1
        while self.ready[lane]:
            w = self._choice(lane, now)
            if w < 0 or all(self.free[taken] <= now for taken in self.lanes[w]):
                break
            later.append((self.latest[w], w))
            w = -1
        for item in later:
            heapq.heappush(self.ready[lane], item)
        return w

    def _choice(self, lane: int, now: int) -> int:
        """The work to begin; -1: wait for a more urgent one."""
        ready = self.ready[lane]
        if not self.patient:
            return heapq.heappop(ready)[1]
        latest, w = ready[0]
        end = now + self.duration[w]
        urgent = [
            max(at, self.latest[u])
            for u, at in self.soon[lane].items()
            if max(at, self.latest[u]) < end and at + self.duration[u] <= latest
        ]
        if not urgent:
            return heapq.heappop(ready)[1]
        short = [(q, v) for q, v in ready if now + self.duration[v] <= min(urgent)]
        if not short:
            return -1
        ready.remove(min(short))
        heapq.heapify(ready)
        return min(short)[1]

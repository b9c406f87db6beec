"""Greedy: a schedule made in one pass over time, within the memory, by a rule of thumb."""

from __future__ import annotations

import heapq
from collections import defaultdict
from dataclasses import dataclass
from fractions import Fraction
from math import ceil

from superscaler.schedule.problem import Kind, Problem

RANK = {Kind.BACKWARD: 0, Kind.FUSED: 0, Kind.OTHER: 0, Kind.COMMUNICATION: 0, Kind.COPY: 0}

Key = tuple[bool, int, int, int, int]  # what goes first has the smaller one


@dataclass(frozen=True, slots=True)
class Rule:
    """How eager to be.

    `ahead`: stage s of S has at most `ahead * (S - s)`, and at least `least`, microbatches between
    the start of F and the end of B, and at most `most` (None: no limit). `patience`: a W is not
    begun when a B or F is known to come within this share of its length.
    """

    ahead: Fraction | None = Fraction(1)
    least: int = 1
    patience: Fraction = Fraction(0)
    most: int | None = None

    def quota(self, stage: int, num_stages: int) -> int:
        """How many microbatches a stage may have under way."""
        most = 1 << 30 if self.most is None else self.most
        if self.ahead is None:
            return most
        return min(most, max(self.least, -int(-self.ahead * (num_stages - stage) // 1)))


def greedy(problem: Problem, rule: Rule) -> tuple[int, ...] | None:
    """Start times, or None when the rule runs into a full memory with nothing left to run.

    At any time each free lane begins, of what is ready and fits the memory, what needs several
    lanes before what needs one, B before F before W, the later stage first.
    """
    return _Run(problem, rule).run()


class _Run:
    def __init__(self, problem: Problem, rule: Rule) -> None:
        self.problem, self.rule = problem, rule
        works = problem.works
        self.num_stages = 1 + max((w.stage for w in works), default=0)
        self.start = [-1] * len(works)
        self.waiting = [len(e) for e in problem.incoming]
        self.ready_at = [0] * len(works)
        self.taken: set[int] = set()  # lanes
        self.used = [m.resident for m in problem.memories]
        self.under_way: dict[tuple[int, int], int] = defaultdict(int)
        self.begins: dict[int, list[int]] = defaultdict(list)
        self.ends: dict[int, list[int]] = defaultdict(list)
        self.begun = [False] * len(problem.holds)
        self.left = [len(h.last) for h in problem.holds]
        for number, hold in enumerate(problem.holds):
            for w in hold.first:
                self.begins[w].append(number)
            for w in hold.last:
                self.ends[w].append(number)
        self.last_of = self._last_of()
        self.returning = set(self.last_of.values())  # stages that have a backward
        self.keys = [self._key(w) for w in range(len(works))]
        self.quota = {s: rule.quota(s, self.num_stages) for s in {w.stage for w in works}}
        self.counted = [self._is_counted(w) for w in range(len(works))]
        self.patience = [ceil(rule.patience * w.duration) for w in works]
        self.alike = self._alike()
        self.ready: dict[int, list[tuple[Key, int]]] = defaultdict(list)  # heaps of what is alike
        for w, count in enumerate(self.waiting):
            if not count:
                self._add(w)

    def _last_of(self) -> dict[int, tuple[int, int]]:
        """The work with which a microbatch stops being under way in a stage."""
        found: dict[tuple[int, int, int], int] = {}
        for number, work in enumerate(self.problem.works):
            if work.kind in (Kind.BACKWARD, Kind.FUSED):
                found[work.stage, work.chain, work.microbatch] = number
        has = set(found)
        for number, work in enumerate(self.problem.works):
            key = (work.stage, work.chain, work.microbatch)
            if work.kind is Kind.WEIGHT and key not in has:
                found[key] = number
        return {number: key[:2] for key, number in found.items()}

    def _alike(self) -> list[int]:
        """A number for each work, the same for those of which none may begin where one may not."""
        known: dict[object, int] = {}
        found = []
        for w, work in enumerate(self.problem.works):
            holds = [self.problem.holds[h] for h in self.begins.get(w, ())]
            alike: object = w  # what others begin to hold as well may be held already
            if all(len(hold.first) == 1 for hold in holds):
                needs = tuple((hold.memory, hold.amount) for hold in holds)
                alike = (work.family, work.lanes, self.counted[w], self.patience[w], needs)
            found.append(known.setdefault(alike, len(known)))
        return found

    def _add(self, w: int) -> None:
        heapq.heappush(self.ready[self.alike[w]], (self.keys[w], w))

    def _key(self, number: int) -> Key:
        work = self.problem.works[number]
        rank = RANK.get(work.kind, 1 if work.kind is Kind.FORWARD else 2)
        return (len(work.lanes) == 1, rank, -work.stage, work.microbatch, number)

    def run(self) -> tuple[int, ...] | None:
        problem = self.problem
        running: list[tuple[int, int]] = []
        later: list[tuple[int, int]] = []  # (ready at, work), of what has nothing to wait for
        now, done = 0, 0
        while done < len(problem.works):
            while running and running[0][0] <= now:
                done += 1
                self._end(heapq.heappop(running)[1], now, later)
            while later and later[0][0] <= now:
                self._add(heapq.heappop(later)[1])
            if self._begin(now, running, later):
                continue  # what takes no time may have ended already
            times = [q[0][0] for q in (running, later) if q and q[0][0] > now]
            if not times:
                if done < len(problem.works):
                    return None
                break
            now = min(times)
        return tuple(self.start)

    def _begin(
        self, now: int, running: list[tuple[int, int]], later: list[tuple[int, int]]
    ) -> bool:
        instant = False
        coming = self._coming(now, later)
        heads = [(ready[0], alike) for alike, ready in self.ready.items() if ready]
        heapq.heapify(heads)
        while heads:
            (_, w), alike = heapq.heappop(heads)
            work = self.problem.works[w]
            if not self.taken.isdisjoint(work.lanes) or not self._may(w, now, coming):
                continue  # nor may those that are alike: what is taken and used only grows
            heapq.heappop(self.ready[alike])
            if self.ready[alike]:
                heapq.heappush(heads, (self.ready[alike][0], alike))
            self.start[w] = now
            self.taken.update(work.lanes)
            for h in self.begins[w]:
                if not self.begun[h]:
                    self.begun[h] = True
                    self.used[self.problem.holds[h].memory] += self.problem.holds[h].amount
            if self.counted[w]:
                self.under_way[work.stage, work.chain] += 1
            heapq.heappush(running, (now + work.duration, w))
            instant |= work.duration == 0
        return instant

    def _is_counted(self, w: int) -> bool:
        """Whether a microbatch is under way in a stage from here on."""
        work = self.problem.works[w]
        is_forward = work.kind is Kind.FORWARD and (work.stage, work.chain) in self.returning
        return is_forward and self._is_first_piece(w)

    def _is_first_piece(self, w: int) -> bool:
        works = self.problem.works
        return (
            w == 0
            or works[w - 1].family != works[w].family
            or (works[w - 1].microbatch != works[w].microbatch)
        )

    def _coming(self, now: int, later: list[tuple[int, int]]) -> dict[int, int]:
        """Lane -> when the next B or F is known to be ready."""
        found: dict[int, int] = {}
        if self.rule.patience:
            for at, w in later:
                if self.problem.works[w].kind is not Kind.WEIGHT and at > now:
                    for lane in self.problem.works[w].lanes:
                        found[lane] = min(found.get(lane, at), at)
        return found

    def _may(self, w: int, now: int, coming: dict[int, int]) -> bool:
        work = self.problem.works[w]
        if self.counted[w] and self.under_way[work.stage, work.chain] >= self.quota[work.stage]:
            return False
        if coming and work.kind is Kind.WEIGHT:
            wait = now + self.patience[w]
            if any(coming.get(lane, wait) < wait for lane in work.lanes):
                return False
        return self._has_room(w)

    def _has_room(self, w: int) -> bool:
        """Whether what a work begins to hold fits the memories."""
        needs: dict[int, int] = {}
        for h in self.begins.get(w, ()):
            if not self.begun[h]:
                hold = self.problem.holds[h]
                needs[hold.memory] = needs.get(hold.memory, 0) + hold.amount
        return all(
            self.used[memory] + amount <= self.problem.memories[memory].capacity
            for memory, amount in needs.items()
        )

    def _end(self, w: int, now: int, later: list[tuple[int, int]]) -> None:
        self.taken.difference_update(self.problem.works[w].lanes)
        for h in self.ends[w]:
            self.left[h] -= 1
            if not self.left[h]:
                self.used[self.problem.holds[h].memory] -= self.problem.holds[h].amount
        if w in self.last_of:
            self.under_way[self.last_of[w]] -= 1
        for edge in self.problem.outgoing[w]:
            n = edge.after
            self.ready_at[n] = max(self.ready_at[n], now + edge.latency)
            self.waiting[n] -= 1
            if not self.waiting[n]:
                heapq.heappush(later, (self.ready_at[n], n))

"""Engine: when everything of a step happens, by discrete events over classes of ranks.

A rank does its script's actions in order. A communication is ready when all that take part have
started it. It may wait for a part of its time (until threads wake up), and then occupies one lane
of each: it begins when these are free, those that came first go first. Whoever waits for it goes on
when it is over. On a host whose processors compute and communicate, all that ask for more cores
than there are get equal shares.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from superscaler.errors import SimulateError
from superscaler.simulate.scripts.script import Await, Compute, Script, Start

Part = tuple[int, int, int]  # class, number of the posting in its script, message in it
_WORK, _MEETING, _WAIT = range(3)  # what ends: a class's work, a meeting, its wait before


@dataclass(frozen=True, slots=True)
class Meeting:
    """A collective or a message: who takes part, how long it takes on which lane."""

    parts: tuple[Part, ...]
    us: float
    lane: str
    receivers: tuple[int, ...]  # of `parts`: whose wait is for it
    busy: float = 1.0  # the last part of `us`, which it takes on lanes, and of cores if they do it


@dataclass(frozen=True, slots=True)
class Host:
    """The host of a class's first rank: its cores, and its ranks by class."""

    cores: int
    ranks: dict[int, int]


@dataclass(frozen=True, slots=True)
class Span:
    """From `start` to `end`, in us; `ready` is when the last had come."""

    ready: float
    start: float
    end: float


@dataclass
class Timing:
    """Per class: the span of every action. Per meeting: its span."""

    actions: list[list[Span]]
    meetings: list[Span]
    end_us: float


def run(
    scripts: Sequence[Script], meetings: Sequence[Meeting], hosts: Sequence[Host | None] = ()
) -> Timing:
    """The times of one step. `hosts` are those on which ranks may have to share cores, by class.

    Raises SimulateError when ranks wait for each other.
    """
    engine = _Engine(scripts, meetings, hosts or [None] * len(scripts))
    engine.advance(range(len(scripts)))
    while engine.step():
        pass
    engine.check_over()
    spans = [span for span in engine.spans if span is not None]
    end = max((actions[-1].end for actions in engine.done if actions), default=0.0)
    return Timing(engine.done, spans, end)


@dataclass
class _Engine:
    scripts: Sequence[Script]
    meetings: Sequence[Meeting]
    hosts: Sequence[Host | None]
    now: float = 0.0
    done: list[list[Span]] = field(default_factory=list)
    spans: list[Span | None] = field(default_factory=list)
    queues: dict[tuple[int, str], deque[int]] = field(default_factory=dict)  # lane -> meetings
    events: list[tuple[float, int, int]] = field(default_factory=list)  # us, what, number
    began: dict[int, float] = field(default_factory=dict)  # class -> start of its work
    left: dict[int, float] = field(default_factory=dict)  # of work on shared cores: by class, and
    # of communication: by ~ number of the meeting
    blocked: dict[int, tuple[int, int]] = field(default_factory=dict)  # class -> what it awaits

    def __post_init__(self) -> None:
        self.done = [[] for _ in self.scripts]
        self.spans = [None] * len(self.meetings)
        self.ready = [0.0] * len(self.meetings)
        self.missing = [len(m.parts) for m in self.meetings]
        self.starts: dict[tuple[int, int], list[int]] = {}  # posting -> its meetings
        self.awaited: dict[tuple[int, int], list[int]] = {}  # those that a wait for it is for
        self.under_way: Counter[tuple[int, int]] = Counter()  # posting -> of those, not yet over
        for number, meeting in enumerate(self.meetings):
            for i, (who, post, _) in enumerate(meeting.parts):
                self.starts.setdefault((who, post), []).append(number)
                if i in meeting.receivers:
                    self.awaited.setdefault((who, post), []).append(number)
                    self.under_way[who, post] += 1

    def step(self) -> bool:
        """Go to the next moment at which something ends; False when there is none."""
        shares = self._shares()
        moments = [self.now + self.left[who] / share for who, share in shares.items()]
        moments += [self.events[0][0]] if self.events else []
        if not moments:
            return False
        before, self.now = self.now, min(moments)
        done = [work for (work, share), end in zip(shares.items(), moments) if end <= self.now]
        for work, share in shares.items():
            self.left[work] = max(0.0, self.left[work] - (self.now - before) * share)
        for work in done:
            del self.left[work]
            self._at(self.now, *((_WORK, work) if work >= 0 else (_MEETING, ~work)))
        ended = self._ended()
        over = ended[_WORK] + [who for n in ended[_MEETING] for who in self._released_by(n)]
        for who in over:
            self._end(who, self.began.pop(who))
        for number in ended[_MEETING]:
            for following in self._next_on(number):
                self._begin_if_free(following)
        self._queue(ended[_WAIT])
        self.advance(sorted(over))
        return True

    def _at(self, us: float, what: int, number: int) -> None:
        heapq.heappush(self.events, (us, what, number))

    def _ended(self) -> dict[int, list[int]]:
        """The numbers of all that ends now, by what it is."""
        ended: dict[int, list[int]] = {_WORK: [], _MEETING: [], _WAIT: []}
        while self.events and self.events[0][0] <= self.now:
            _, what, number = heapq.heappop(self.events)
            ended[what].append(number)
        return ended

    def advance(self, classes: Sequence[int]) -> None:
        """Let classes do what they can do now; then the communications that are ready."""
        ready: list[int] = []
        for who in classes:
            self._advance(who, ready)
        for number in ready:
            self.ready[number] = self.now
            if wait_us := self._wait_us(number):
                self._at(self.now + wait_us, _WAIT, number)
        self._queue([number for number in ready if not self._wait_us(number)])

    def _advance(self, who: int, ready: list[int]) -> None:
        script = self.scripts[who]
        while len(self.done[who]) < len(script.actions):
            action = script.actions[len(self.done[who])]
            if isinstance(action, Start):
                self._start(who, action.post, ready)
                self._end(who, self.now)
            elif isinstance(action, Await):
                if self.under_way[who, action.post]:
                    self.blocked[who] = (who, action.post)
                    self.began[who] = self.now
                    return
                self._end(who, self.now)
            elif action.us:
                self._work(who, action)
                return
            else:
                self._end(who, self.now)

    def _work(self, who: int, action: Compute) -> None:
        self.began[who] = self.now
        if self.hosts[who] is not None:
            self.left[who] = action.us
        else:
            self._at(self.now + action.us, _WORK, who)

    def _shares(self) -> dict[int, float]:
        """The shares of a core that the ranks of classes and meetings get: all on a host the same,
        and a meeting the least of those of its parts."""
        if not self.left:
            return {}
        busy = [who for work in self.left for who in self._classes(work)]
        shares = {}
        for work in self.left:
            hosts = [host for who in self._classes(work) if (host := self.hosts[who]) is not None]
            most = max(sum(h.ranks.get(other, 0) for other in busy) / h.cores for h in hosts)
            shares[work] = 1.0 / max(1.0, most)
        return shares

    def _classes(self, work: int) -> tuple[int, ...]:
        """The classes that work on shared cores, or a communication there, keeps busy."""
        if work >= 0:
            return (work,)
        return tuple(dict.fromkeys(who for who, _, _ in self.meetings[~work].parts))

    def _end(self, who: int, began: float) -> None:
        self.done[who].append(Span(began, began, self.now))

    # communication

    def _start(self, who: int, post: int, ready: list[int]) -> None:
        for number in self.starts.get((who, post), ()):
            self.missing[number] -= 1
            if not self.missing[number]:
                ready.append(number)

    def _wait_us(self, number: int) -> float:
        """What a communication waits for no lane."""
        meeting = self.meetings[number]
        return meeting.us * (1.0 - meeting.busy)

    def _queue(self, numbers: Sequence[int]) -> None:
        """Communications that come to their lanes now."""
        for number in sorted(numbers, key=lambda n: self.meetings[n].parts):
            for lane in self._lanes(number):
                self.queues.setdefault(lane, deque()).append(number)
            self._begin_if_free(number)

    def _begin_if_free(self, number: int) -> None:
        """It takes its lanes where it is the first on all of them."""
        meeting = self.meetings[number]
        if self.spans[number] or any(
            self.queues[lane][0] != number for lane in self._lanes(number)
        ):
            return
        self.spans[number] = Span(self.ready[number], self.now, self.now)
        if any(self.hosts[who] is not None for who, _, _ in meeting.parts):
            self.left[~number] = meeting.us * meeting.busy
        else:
            self._at(self.now + meeting.us * meeting.busy, _MEETING, number)

    def _next_on(self, number: int) -> list[int]:
        """It leaves its lanes: those that are first on them now."""
        found = []
        for lane in self._lanes(number):
            queue = self.queues[lane]
            queue.popleft()
            found += [queue[0]] if queue else []
        return list(dict.fromkeys(found))

    def _lanes(self, number: int) -> list[tuple[int, str]]:
        meeting = self.meetings[number]
        return list(dict.fromkeys((who, meeting.lane) for who, _, _ in meeting.parts))

    def _released_by(self, number: int) -> list[int]:
        """The classes that a communication was the last to keep waiting; it is over."""
        found = []
        meeting, span = self.meetings[number], self.spans[number]
        assert span is not None
        self.spans[number] = Span(span.ready, span.start, self.now)
        for i in meeting.receivers:
            who, post, _ = meeting.parts[i]
            self.under_way[who, post] -= 1
            if not self.under_way[who, post] and self.blocked.get(who) == (who, post):
                del self.blocked[who]
                found.append(who)
        return found

    def check_over(self) -> None:
        """Raises SimulateError that says who waits for whom."""
        if not self.blocked:
            return
        lines = ["the ranks wait for each other and never go on"]
        for who, key in sorted(self.blocked.items()):
            number = next(n for n in self.awaited[key] if self.spans[n] is None)
            posting = self.scripts[who].postings[key[1]]
            call = self.scripts[who].calls[posting.call]
            kind = posting.communication.kind
            others = sorted({w for w, _, _ in self.meetings[number].parts} - {who})
            lines.append(
                f"  class {who} waits for {kind} of {call.function}{list(call.time)} "
                f"with classes {others}"
            )
        raise SimulateError("\n".join(lines))

"""Engine: when everything of a step happens, by discrete events over classes of ranks.

A rank does its script's actions in order. A communication is ready when all that take part have
started it, and occupies one lane of each: it begins when these are free, those that are ready
first go first. Whoever waits for it goes on when it is over.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field

from superscaler.errors import SimulateError
from superscaler.simulate.script import Await, Compute, Script, Start

Part = tuple[int, int, int]  # class, number of the posting in its script, message in it


@dataclass(frozen=True, slots=True)
class Meeting:
    """A collective or a message: who takes part, how long it takes on which lane."""

    parts: tuple[Part, ...]
    us: float
    lane: str
    receivers: tuple[int, ...]  # of `parts`: whose wait is for it


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


def run(scripts: Sequence[Script], meetings: Sequence[Meeting]) -> Timing:
    """The times of one step. Raises SimulateError when ranks wait for each other."""
    engine = _Engine(scripts, meetings)
    for number in range(len(scripts)):
        engine.advance(number)
    while engine.ready:
        engine.begin(*heapq.heappop(engine.ready))
    engine.check_over()
    spans = [span for span in engine.spans if span is not None]
    end = max((actions[-1].end for actions in engine.done if actions), default=0.0)
    return Timing(engine.done, spans, end)


@dataclass
class _Engine:
    scripts: Sequence[Script]
    meetings: Sequence[Meeting]
    done: list[list[Span]] = field(default_factory=list)
    now: list[float] = field(default_factory=list)
    spans: list[Span | None] = field(default_factory=list)
    ready: list[tuple[float, tuple[Part, ...], int]] = field(default_factory=list)
    free: dict[tuple[int, str], float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.done = [[] for _ in self.scripts]
        self.now = [0.0] * len(self.scripts)
        self.spans = [None] * len(self.meetings)
        self.missing = [len(m.parts) for m in self.meetings]
        self.came = [0.0] * len(self.meetings)
        self.of_post: dict[tuple[int, int], list[int]] = {}  # that take part in
        self.awaited: dict[tuple[int, int], list[int]] = {}  # that a wait is for
        for number, meeting in enumerate(self.meetings):
            for i, (who, post, _) in enumerate(meeting.parts):
                self.of_post.setdefault((who, post), []).append(number)
                if i in meeting.receivers:
                    self.awaited.setdefault((who, post), []).append(number)
        self.blocked: dict[int, tuple[int, int]] = {}  # class -> the post it waits for

    def advance(self, who: int) -> None:
        """Do what a class can do."""
        script, done = self.scripts[who], self.done[who]
        while len(done) < len(script.actions):
            action = script.actions[len(done)]
            now = self.now[who]
            if isinstance(action, Compute):
                self.now[who] = now + action.us
            elif isinstance(action, Start):
                self._start(who, action.post, now)
            elif not self._await(who, action, now):
                return
            done.append(Span(now, now, self.now[who]))

    def _start(self, who: int, post: int, now: float) -> None:
        for number in self.of_post.get((who, post), ()):
            self.missing[number] -= 1
            self.came[number] = max(self.came[number], now)
            if not self.missing[number]:
                meeting = self.meetings[number]
                heapq.heappush(self.ready, (self.came[number], meeting.parts, number))

    def _await(self, who: int, action: Await, now: float) -> bool:
        """Whether what is waited for is over, or known to be over when."""
        spans = [self.spans[n] for n in self.awaited.get((who, action.post), ())]
        if any(span is None for span in spans):
            self.blocked[who] = (who, action.post)
            return False
        self.now[who] = max([now, *(span.end for span in spans if span is not None)])
        return True

    def begin(self, ready: float, parts: tuple[Part, ...], number: int) -> None:
        """A communication for which all have come takes its lanes."""
        meeting = self.meetings[number]
        lanes = {(who, meeting.lane) for who, _, _ in parts}
        start = max([ready, *(self.free.get(lane, 0.0) for lane in lanes)])
        self.spans[number] = Span(ready, start, start + meeting.us)
        for lane in lanes:
            self.free[lane] = start + meeting.us
        for who in sorted({who for who, _, _ in parts}):
            post = self.blocked.get(who)
            if post is not None and all(self.spans[n] for n in self.awaited[post]):
                del self.blocked[who]
                self.advance(who)

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

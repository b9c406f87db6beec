"""Replay: a rank's schedule, call by call, with every value's memory followed to its end.

The rules are the runtime's (`runtime.timeline`, `runtime.executor`): values are freed by the last
call that reads them, sums are made in place where nobody else has the value, what is under way is
waited for by its first reader.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from superscaler.runtime.timeline import Entry, Timeline, Write
from superscaler.simulate.recording.record import (
    Communication,
    EndSends,
    Form,
    Free,
    Given,
    Post,
    Record,
    Run,
    Take,
    Wait,
    contiguous,
)
from superscaler.simulate.scripts.script import (
    SHARING,
    Action,
    Await,
    Call,
    Compute,
    Posting,
    Start,
    thinned,
)
from superscaler.simulate.scripts.summary import Summary, summarised
from superscaler.simulate.scripts.values import (
    Argument,
    Arriving,
    Held,
    Storage,
    Summing,
    Underway,
    Value,
    copies,
    numbered,
)


@dataclass(frozen=True)
class Rules:
    """What a replay asks: the record of a call, how long an addition takes, what a value is."""

    recorded: Callable[[Entry, tuple[Given, ...]], Record]
    addition_us: Callable[[Form], float]
    label_of: Callable[[int], str]


@dataclass(frozen=True)
class Played:
    """What a replay finds; `at_peak` are the labels and bytes of what is alive at the peak."""

    calls: tuple[Call, ...]
    actions: tuple[Action, ...]
    postings: tuple[Posting, ...]
    peak_bytes: int
    at_peak: tuple[tuple[str, int], ...]
    host_peak_bytes: int


def replay(
    timeline: Timeline,
    resting: dict[int, Held],
    resident_bytes: tuple[int, int],
    rules: Rules,
    last: Communication | None,
) -> Played:
    """Follow all entries from the values that are there before the step.

    `resident_bytes` are those of no value (optimizer states), on the device and in host memory. A
    storage with a reference to begin with stays to the end. `last` is the communication that ends
    the step.
    """

    def run(entries: Sequence[Entry], watched: int) -> _Replay:
        work = _Replay(copies(resting), resident_bytes, rules, watched)
        for entry in entries:
            work.entry(entry)
        if len(entries) == len(timeline.entries):
            work.end(last)
        return work

    first = run(timeline.entries, -1)
    # again, to look at every step of the call with the peak
    at_peak = run(timeline.entries[: first.peak_call + 1], first.peak_call).at_peak
    parts = (tuple(first.calls), tuple(first.actions), tuple(first.postings))
    return Played(*parts, first.peak, tuple(at_peak), first.host_peak)


class _Replay:
    """The state between two calls. In call `watched` every step is looked at for the peak."""

    def __init__(
        self,
        values: dict[int, Value],
        resident_bytes: tuple[int, int],
        rules: Rules,
        watched: int,
    ) -> None:
        self.calls: list[Call] = []
        self.actions: list[Action] = []
        self.postings: list[Posting] = []
        self.peak, self.peak_call = 0, 0
        self.at_peak: list[tuple[str, int]] = []
        self._watched, self._watched_peak = watched, -1
        self._rules, self._values = rules, values
        (self._level, self._host_level), self._us = resident_bytes, 0.0
        self.host_peak = self._host_level
        self._points: list[tuple[float, int]] = []
        self._live: dict[Storage, None] = {}
        self._sent: list[Storage] = []
        self._unread: list[Value] = []
        self._summaries: dict[object, Summary] = {}
        for value in values.values():
            assert isinstance(value, Held)
            if value.storage not in self._live:
                self._allocate(value.storage)
            value.storage.refs += 1

    # memory

    def _allocate(self, storage: Storage) -> None:
        self._live[storage] = None
        self._change(storage, storage.num_bytes)

    def _drop(self, storage: Storage) -> None:
        storage.refs -= 1
        if not storage.refs:
            del self._live[storage]
            self._change(storage, -storage.num_bytes)

    def _change(self, storage: Storage, num_bytes: int) -> None:
        if storage.in_host:
            self._host_level += num_bytes
            self.host_peak = max(self.host_peak, self._host_level)
            return
        self._level += num_bytes
        self._points.append((self._us, self._level))
        self._look(self._level)

    def _look(self, level: int) -> None:
        """Remember the call with the highest level, and who is alive at it in the watched call."""
        now = len(self.calls) - 1
        if level > self.peak:
            self.peak, self.peak_call = level, now
        if now == self._watched and level > self._watched_peak:
            self._watched_peak = level
            self.at_peak = [(s.label, s.num_bytes) for s in self._live if not s.in_host]

    # time

    def _cut(self) -> None:
        """End the piece of work so far."""
        if self._us or self._points:
            call = max(len(self.calls) - 1, 0)
            self.actions.append(Compute(self._us, call, thinned(self._points)))
            self._us, self._points = 0.0, []

    def _wait(self, post: int) -> None:
        self._cut()
        self.actions.append(Await(post, max(len(self.calls) - 1, 0)))

    def _post(self, communication: Communication) -> int:
        self._cut()
        self.postings.append(Posting(communication, len(self.calls) - 1))
        self.actions.append(Start(len(self.postings) - 1))
        return len(self.postings) - 1

    # a call

    def entry(self, entry: Entry) -> None:
        """Fetch what it reads, call it, keep what it writes."""
        self.calls.append(Call(entry.name, entry.time, entry.function.__doc__ or ""))
        forms, given = numbered(self._fetched(entry))
        self._look(self._level)
        record = self._rules.recorded(entry, forms)
        if any(isinstance(step, EndSends) for step in record.steps):
            self._end_sends()
        for storage in given:
            storage.refs += 1
        self._hand_over(entry)
        table, posts = self._run(record, given, entry.name)
        self._keep(entry, record, table, posts)
        gone = {step.storage for step in record.steps if isinstance(step, Free)}
        for number, storage in table.items():
            if number not in gone:
                self._drop(storage)
        self._cut()

    def _fetched(self, entry: Entry) -> list[Argument]:
        return [
            {t: self._resolved_at(n) for t, n in read.items()}
            if isinstance(read, dict)
            else self._resolved_at(read)
            for read in entry.reads
        ]

    def _hand_over(self, entry: Entry) -> None:
        """Values that this call is the last to read are the call's alone from now on."""
        for read, dies in zip(entry.reads, entry.dying, strict=True):
            numbers = read.values() if isinstance(read, dict) else (read,)
            for number in numbers if dies else ():
                value = self._values.pop(number)
                assert isinstance(value, Held)
                self._drop(value.storage)

    def _run(
        self, record: Record, given: list[Storage], name: str
    ) -> tuple[dict[int, Storage], dict[int, int]]:
        """The call's storages by number (with a reference each, where it has not given them back),
        and its communications' numbers in the script."""
        table = dict(enumerate(given))
        if len(self.calls) - 1 == self._watched:
            return table, self._run_watched(record, table, name)
        frees = tuple(s.refs == 1 for s in given)
        in_host = tuple(s.in_host for s in given)
        key = (id(record), frees, in_host)
        if key not in self._summaries:
            sizes = tuple(s.num_bytes for s in given)
            self._summaries[key] = summarised(record, sizes, frees, in_host)
        posts = self._play(self._summaries[key], record)
        self._settle(record, table, len(given))
        return table, posts

    def _play(self, summary: Summary, record: Record) -> dict[int, int]:
        base, posts = self._level, dict[int, int]()
        self._look(base + summary.peak)
        self.host_peak = max(self.host_peak, self._host_level + summary.host_peak)
        self._host_level += summary.host_left
        for piece in summary.pieces:
            self._points += [(self._us + at, base + level) for at, level in piece.curve]
            self._us += piece.us
            if isinstance(piece.ends, Post):
                number = piece.ends.number
                posts[number] = self._post(record.communications[number])
            elif piece.ends is not None:
                self._wait(posts[piece.ends.number])
        self._level = base + summary.left
        return posts

    def _settle(self, record: Record, table: dict[int, Storage], num_given: int) -> None:
        """What is alive after a call whose levels are known already."""
        for step in record.steps:
            if isinstance(step, Take):
                table[step.storage] = Storage(step.num_bytes, "", 1, step.in_host)
            elif isinstance(step, Free):
                storage = table[step.storage]
                storage.refs -= 1
                if step.storage < num_given and not storage.refs:
                    del self._live[storage]
        for number, storage in table.items():
            if number >= num_given and storage.refs:
                self._live[storage] = None

    def _run_watched(self, record: Record, table: dict[int, Storage], name: str) -> dict[int, int]:
        posts: dict[int, int] = {}
        for step in record.steps:
            if isinstance(step, Run):
                self._us += step.us
            elif isinstance(step, Take):
                storage = Storage(step.num_bytes, f"{name}\0{step.line}", 1, step.in_host)
                table[step.storage] = storage
                self._allocate(storage)
            elif isinstance(step, Free):
                self._drop(table[step.storage])
            elif isinstance(step, Post):
                posts[step.number] = self._post(record.communications[step.number])
            elif isinstance(step, Wait):
                self._wait(posts[step.number])
        return posts

    # what a call writes

    def _keep(
        self, entry: Entry, record: Record, table: dict[int, Storage], posts: dict[int, int]
    ) -> None:
        for number in record.sent:
            table[number].refs += 1
            table[number].name("buffers of communication")
            self._sent.append(table[number])
        arriving = [Arriving(a, record, table, posts) for a in record.arrivals]
        for a in arriving:
            a.held = [table[n] for n in a.arrival.holds]
            for storage in a.held:
                storage.refs += 1
        for i, (number, how) in enumerate(entry.writes):
            label = self._rules.label_of(number)
            value = self._output(record, i, table, arriving, label)
            self._write(number, how, value, label)

    def _output(
        self,
        record: Record,
        i: int,
        table: dict[int, Storage],
        arriving: list[Arriving],
        label: str,
    ) -> Value:
        output = record.outputs[i]
        if output.arrival >= 0:
            family = arriving[output.arrival]
            family.waiting += 1
            for storage in family.held:
                storage.name(label)
            return Underway(family, i)
        storage = table[output.form.storage]
        storage.refs += 1
        storage.name(label)
        return Held(output.form, storage)

    def _write(self, number: int, how: Write, value: Value, label: str) -> None:
        if how is Write.STORE:
            self._values[number] = value
        elif how is Write.DROP:
            self._discard(value)
        else:
            old, in_place = self._resolved_at(number), how is Write.ADD_IN_PLACE
            if isinstance(value, Held):
                self._values[number] = self._sum(old, value, in_place, label)
            else:
                assert isinstance(value, Underway)
                self._values[number] = Summing(old, value, in_place, label)

    def _sum(self, old: Held, came: Held, in_place: bool, label: str) -> Held:
        self._us += self._rules.addition_us(came.form)
        total = old
        if not in_place:
            form = contiguous(came.form.shape, came.form.dtype, 0)
            total = Held(form, Storage(form.storage_bytes, label, 1))
            self._allocate(total.storage)
            self._drop(old.storage)
        self._drop(came.storage)
        return total

    def _discard(self, value: Value) -> None:
        """A value that nobody reads; what is under way has to be taken in at the end."""
        if isinstance(value, Held):
            self._drop(value.storage)
        else:
            self._unread.append(value)

    # what is under way

    def _resolved_at(self, number: int) -> Held:
        held = self._resolve(self._values[number])
        self._values[number] = held
        return held

    def _resolve(self, value: Value) -> Held:
        if isinstance(value, Held):
            return value
        if isinstance(value, Summing):
            return self._sum(value.total, self._resolve(value.came), value.in_place, value.label)
        arriving = value.arriving
        if not arriving.has_come:
            self._arrive(arriving)
        form = arriving.record.outputs[value.output].form
        storage = arriving.storages[form.storage]
        storage.refs += 1
        arriving.waiting -= 1
        if not arriving.waiting:
            for held in arriving.held:
                self._drop(held)
        return Held(form, storage)

    def _arrive(self, arriving: Arriving) -> None:
        """Wait for it; what it makes is held until every value of it has been waited for."""
        arriving.has_come = True
        table = arriving.storages
        for step in arriving.arrival.steps:
            if isinstance(step, Run):
                self._us += step.us
            elif isinstance(step, Take):
                storage = Storage(step.num_bytes, "buffers of communication", 1, step.in_host)
                table[step.storage] = storage
                arriving.held.append(storage)
                self._allocate(storage)
            elif isinstance(step, Free):
                arriving.held.remove(table[step.storage])
                self._drop(table[step.storage])
            elif isinstance(step, Wait):
                self._wait(arriving.posts[step.number])

    def _end_sends(self) -> None:
        sent, self._sent = self._sent, []
        for storage in sent:
            self._drop(storage)

    def end(self, last: Communication | None) -> None:
        """What comes after the last call: unread values, the results, the sends."""
        for value in self._unread:
            self._drop(self._resolve(value).storage)
        if last is not None:
            if not self.calls:  # of a device that the plan leaves out
                self.calls.append(Call(SHARING, ()))
            self._wait(self._post(last))
        self._end_sends()
        self._cut()

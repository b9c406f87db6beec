"""Rendezvous: which of the ranks' communications meet, and whether all do.

Ranks that run one program are looked at together: what is the same for all of them (the order of
their calls) is looked at once, what differs (who takes part) is a constant of each.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from superscaler.emit.parse import COLLECTIVES, Call, Files, Listing, RankFile
from superscaler.runtime.by_time import Time

Event = tuple[str, int]  # program, number of the call among its communications
Group = tuple[int, ...]


@dataclass(frozen=True)
class Problem:
    """Something wrong with an emitted program: where, and what."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


@dataclass(frozen=True, eq=False)
class Calls:
    """The collectives of one program on one group, in order: the events, and what each calls."""

    events: tuple[Event, ...]
    signatures: tuple[tuple[Any, ...], ...]


@dataclass
class Rendezvous:
    """What `meet` has found: problems, and which events wait for others elsewhere."""

    files: Files
    problems: list[Problem] = field(default_factory=list)
    waits: dict[Event, dict[Event, None]] = field(default_factory=dict)  # event -> must have come
    calls: dict[object, Calls] = field(default_factory=dict)
    compared: set[frozenset[int]] = field(default_factory=set)

    @cached_property
    def atoms(self) -> dict[str, dict[tuple[str, Time], list[int]]]:
        """Program -> (group constant, time index) -> the events that use it."""
        found: dict[str, dict[tuple[str, Time], list[int]]] = {}
        for name, listing in self.files.listings.items():
            uses = found.setdefault(name, {})
            for number, (entry, call) in enumerate(listing.events):
                if call.kind in COLLECTIVES:
                    time = listing.entries[entry].time
                    uses.setdefault((call.constant, time), []).append(number)
        return found

    def listing(self, event: Event) -> Listing:
        return self.files.listings[event[0]]

    def describe(self, event: Event) -> str:
        """An event for a report: `all_reduce of c3 (layers.0.fc2.mm) in forward_0(1)`."""
        listing = self.listing(event)
        entry, call = listing.events[event[1]]
        what = f" of {', '.join(call.assigns) or call.uses}" if call.assigns or call.uses else ""
        what += f" ({call.operator})" if call.operator else ""
        return f"{call.kind}{what} in {listing.entries[entry]}"


def meet(files: Files) -> Rendezvous:
    """Which collectives and messages of which ranks are one, with the problems found on the way."""
    work = Rendezvous(files)
    _collectives(work)
    _messages(work)
    return work


# collectives


def _collectives(work: Rendezvous) -> None:
    members: dict[Group, dict[int, Calls]] = {}
    for rank in work.files.ranks:
        for group, atoms in _groups(work, rank).items():
            members.setdefault(group, {})[rank.rank] = _calls(work, rank.program, tuple(atoms))
    for group, calls in sorted(members.items()):
        _check_group(work, group, calls)


def _groups(work: Rendezvous, rank: RankFile) -> dict[Group, list[tuple[str, Time]]]:
    """Group of several ranks -> the (constant, time index) pairs by which a rank calls it."""
    found: dict[Group, list[tuple[str, Time]]] = {}
    for name, time in work.atoms[rank.program]:
        try:
            group = rank.constant(name, time)
        except KeyError:
            group = None
        if not isinstance(group, tuple) or rank.rank not in group:
            what = f"{name} should be a group that this rank is in, at {time}; it is {group}"
            work.problems.append(Problem(f"rank {rank.rank}", what))
        elif len(group) > 1:
            found.setdefault(group, []).append((name, time))
    return found


def _calls(work: Rendezvous, program: str, atoms: tuple[tuple[str, Time], ...]) -> Calls:
    """The calls of a program that use one of these constants, in order."""
    key = (program, atoms)
    if key not in work.calls:
        listing = work.files.listings[program]
        numbers = sorted(n for atom in atoms for n in work.atoms[program][atom])
        signatures = tuple(_signature(listing, n) for n in numbers)
        work.calls[key] = Calls(tuple((program, n) for n in numbers), signatures)
    return work.calls[key]


def _signature(listing: Listing, number: int) -> tuple[Any, ...]:
    """What the members of a group must agree on: the call, what it makes, shapes, and time."""
    entry, call = listing.events[number]
    return (call.kind, call.assigns, call.arguments, listing.entries[entry].time)


def _check_group(work: Rendezvous, group: Group, calls: dict[int, Calls]) -> None:
    missing = [r for r in group if r not in calls]
    if missing:
        caller, present = next(iter(calls.items()))
        what = f"{work.describe(present.events[0])} is for ranks {list(group)}"
        text = f"{what}, but rank {missing[0]} calls nothing with these ranks"
        work.problems.append(Problem(f"rank {caller}", text))
        return
    first = calls[group[0]]
    distinct = {id(calls[rank]): rank for rank in reversed(group)}
    if frozenset(distinct) in work.compared:
        return
    work.compared.add(frozenset(distinct))
    for rank in sorted(distinct.values()):
        if first.signatures != calls[rank].signatures:
            work.problems.append(_difference(work, group, rank, first, calls[rank]))
            return
    for events in zip(*(calls[rank].events for rank in sorted(distinct.values()))):
        together = dict.fromkeys(events)
        for event in together:
            others = {other: None for other in together if other != event}
            work.waits.setdefault(event, {}).update(others)


def _difference(work: Rendezvous, group: Group, rank: int, first: Calls, other: Calls) -> Problem:
    count = min(len(first.events), len(other.events))
    pairs = zip(first.signatures, other.signatures)
    at = next((i for i, (a, b) in enumerate(pairs) if a != b), count)

    def call(calls: Calls) -> str:
        if at == len(calls.events):
            return "nothing more"
        listing, number = work.listing(calls.events[at]), calls.events[at][1]
        return f"{work.describe(calls.events[at])} ({listing.events[number][1].arguments})"

    return Problem(
        f"collective {at} of ranks {list(group)}",
        f"rank {group[0]} calls {call(first)}, rank {rank} calls {call(other)}",
    )


# messages

Message = tuple[Event, tuple[Any, ...]]  # the event, and what both sides must agree on


def _messages(work: Rendezvous) -> None:
    sent: dict[tuple[int, int], list[Message]] = {}
    received: dict[tuple[int, int], list[Message]] = {}
    for rank in work.files.ranks:
        listing = work.files.listings[rank.program]
        for number, (entry, call) in enumerate(listing.events):
            if call.kind in COLLECTIVES:
                continue
            event = (rank.program, number)
            try:
                value = rank.constant(call.constant, listing.entries[entry].time)
                messages = _messages_of(listing, entry, call, value)
            except (KeyError, TypeError, ValueError):
                what = f"{work.describe(event)}: {call.constant} has no value that fits"
                work.problems.append(Problem(f"rank {rank.rank}", what))
                continue
            for is_send, peer, agreed in messages:
                pair = (rank.rank, peer) if is_send else (peer, rank.rank)
                (sent if is_send else received).setdefault(pair, []).append((event, agreed))
    for pair in sorted({*sent, *received}):
        _check_pair(work, pair, sent.get(pair, []), received.get(pair, []))


def _messages_of(
    listing: Listing, number: int, call: Call, value: Any
) -> Iterator[tuple[bool, int, tuple[Any, ...]]]:
    """(whether sent, the other rank, what both sides must agree on) of each message of a call."""
    entry = listing.entries[number]
    if call.kind != "exchange":
        yield call.kind.startswith("send"), int(value), (entry.body.doc, entry.time)
        return
    name = (call.assigns, entry.time)
    for _, box, to in value["send"]:
        yield True, to, (*name, tuple(b - a for a, b in box))
    for frm, box, _ in value["recv"]:
        yield False, frm, (*name, tuple(b - a for a, b in box))


def _check_pair(
    work: Rendezvous, pair: tuple[int, int], sent: list[Message], received: list[Message]
) -> None:
    for at, ((sender, given), (receiver, wanted)) in enumerate(zip(sent, received)):
        if given != wanted:
            what = (
                f"sends {work.describe(sender)} {given}, "
                f"the receiver expects {work.describe(receiver)} {wanted}"
            )
            work.problems.append(
                Problem(f"message {at} from rank {pair[0]} to rank {pair[1]}", what)
            )
            return
        if sender != receiver:
            work.waits.setdefault(receiver, {})[sender] = None
    if len(sent) > len(received):
        extra = work.describe(sent[len(received)][0])
        what = f"{extra} sends to rank {pair[1]}, which never receives it"
        work.problems.append(Problem(f"rank {pair[0]}", what))
    elif len(received) > len(sent):
        extra = work.describe(received[len(sent)][0])
        what = f"{extra} waits for rank {pair[0]}, which never sends it"
        work.problems.append(Problem(f"rank {pair[1]}", what))

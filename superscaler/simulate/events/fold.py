"""Fold: ranks that do the same at the same times become one class, by colour refinement.

Ranks start with the colour of their script. Then, as long as some differ, ranks of one colour are
told apart by the colours of those they communicate with, communication by communication, and by
what each costs. Ranks of one class see the same at all times: nothing they wait for differs.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from superscaler.emit.constants import Constants
from superscaler.runtime.by_time import Time
from superscaler.simulate.recording.record import ITSELF, Communication
from superscaler.simulate.scripts.script import EVERYONE, Script

Place = tuple[int, int]  # number of a posting in its script, number of the message in it
Ranks = tuple[int, ...]
Cost = Callable[[Communication, int, Ranks], Hashable]  # communication, bytes, ranks


@dataclass(frozen=True, slots=True)
class Channel:
    """Ranks whose communications over it meet in order: a group, or a sender and a receiver."""

    ranks: Ranks
    is_message: bool


@dataclass(frozen=True, slots=True)
class Member:
    """A rank's places on a channel, in order; lists of equal number are equal."""

    rank: int
    list_id: int
    places: tuple[Place, ...]


@dataclass
class Network:
    """Every rank's script, and who meets whom where."""

    scripts: Sequence[Script]
    script_of: Sequence[int]  # rank -> script
    channels: dict[Channel, list[Member]] = field(default_factory=dict)
    of_rank: dict[int, list[tuple[Channel, int]]] = field(default_factory=dict)  # and its list_id


def connect(scripts: Sequence[Script], script_of: Sequence[int], constants: Constants) -> Network:
    """Find every rank's channels."""
    network = Network(scripts, script_of)
    uses = [_uses(script) for script in scripts]
    lists: dict[object, tuple[int, tuple[Place, ...]]] = {}
    everyone = tuple(range(len(script_of)))
    for rank, script in enumerate(script_of):
        atoms: dict[Channel, list[object]] = {}
        for constant, places in uses[script].items():
            for channel, atom in _channels(constant, places, rank, constants, everyone):
                atoms.setdefault(channel, []).append(atom)
        for channel, found in atoms.items():
            key = (script, tuple(found))
            if key not in lists:
                flat = {p for atom in found for p in _places(uses[script], atom)}
                lists[key] = (len(lists), tuple(sorted(flat)))
            network.channels.setdefault(channel, []).append(Member(rank, *lists[key]))
            network.of_rank.setdefault(rank, []).append((channel, lists[key][0]))
    return network


Use = tuple[Place, Time, str, int]  # where, at which time index, "group" / "to" / "from", index


def _uses(script: Script) -> dict[str, list[Use]]:
    """The places of a script by the constant that says who takes part."""
    found: dict[str, list[Use]] = {}
    for number, posting in enumerate(script.postings):
        what, time = posting.communication, script.calls[posting.call].time
        if what.kind != "move":
            found.setdefault(what.constant, []).append(((number, 0), time, "group", -1))
            continue
        at = 0
        for side, messages in (("to", what.sends), ("from", what.receives)):
            for message in messages:
                use = ((number, at), time, side, message.index)
                found.setdefault(message.constant, []).append(use)
                at += 1
    return found


def _channels(
    constant: str, uses: list[Use], rank: int, constants: Constants, everyone: Ranks
) -> Iterator[tuple[Channel, object]]:
    """The channels on which a rank uses a constant, each with what identifies the places."""
    if constant == EVERYONE:
        yield Channel(everyone, False), (constant,)
    elif constant == ITSELF:
        yield Channel((rank,), False), (constant,)
    elif constants.is_fixed(constant, rank):
        side = uses[0][2]
        yield _channel(constants.at(constant, rank, uses[0][1]), side, -1, rank), (constant,)
    else:
        for number, (_, time, side, index) in enumerate(uses):
            value = constants.at(constant, rank, time)
            yield _channel(value, side, index, rank), (constant, number)


def _channel(value: Any, side: str, index: int, rank: int) -> Channel:
    if side == "group":
        return Channel(tuple(sorted(value)), False)
    if index >= 0:
        value = value["send"][index][2] if side == "to" else value["recv"][index][0]
    return Channel((rank, int(value)) if side == "to" else (int(value), rank), True)


def _places(uses: dict[str, list[Use]], atom: Any) -> list[Place]:
    chosen = uses[atom[0]]
    return [chosen[atom[1]][0]] if len(atom) > 1 else [place for place, *_ in chosen]


def communication_at(script: Script, place: Place) -> tuple[Communication, int]:
    """The communication at a place, and the bytes of the message."""
    found = script.postings[place[0]].communication
    if found.kind != "move":
        return found, found.num_bytes
    return found, (*found.sends, *found.receives)[place[1]].num_bytes


def refined(network: Network, first: Sequence[Hashable], cost: Cost) -> list[int]:
    """Each rank's class: the coarsest classes within those of `first` that communicate alike."""
    colour = _numbered(first)
    attributes = {c: _attribute(network, c, cost) for c in network.channels}
    while True:
        ids: dict[object, int] = {}
        seen = {}
        for channel, members in network.channels.items():
            ends = [(colour[m.rank], m.list_id) for m in members]
            ends = ends if channel.is_message else sorted(ends)
            key = (attributes[channel], tuple(ends))
            seen[channel] = ids.setdefault(key, len(ids))
        own = (
            tuple(sorted((i, seen[c]) for c, i in network.of_rank.get(rank, ())))
            for rank in range(len(colour))
        )
        new = _numbered(list(zip(colour, own, strict=True)))
        if max(new) == max(colour):
            return colour
        colour = new


def _attribute(network: Network, channel: Channel, cost: Cost) -> Hashable:
    """What the channel's communications cost."""
    member = network.channels[channel][0]
    script = network.scripts[network.script_of[member.rank]]
    kinds = {communication_at(script, place) for place in member.places}
    return frozenset((c.kind, size, cost(c, size, channel.ranks)) for c, size in kinds)


def _numbered(keys: Sequence[Hashable]) -> list[int]:
    """Equal keys, equal numbers, counted in order of first appearance."""
    ids: dict[Hashable, int] = {}
    return [ids.setdefault(key, len(ids)) for key in keys]

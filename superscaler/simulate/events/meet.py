"""Meet: which communications of which classes are one and the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from superscaler.errors import SimulateError
from superscaler.simulate.events.engine import Meeting, Part
from superscaler.simulate.events.fold import Channel, Member, Network, communication_at
from superscaler.simulate.machine import Machine
from superscaler.simulate.scripts.script import EVERYONE


@dataclass(frozen=True, slots=True)
class Met(Meeting):
    """A meeting, with what it is: `ranks` are those of one of the meetings that are alike."""

    kind: str = ""
    num_bytes: int = 0
    ranks: tuple[int, ...] = ()


def meetings(network: Network, classes: Sequence[tuple[int, ...]], machine: Machine) -> list[Met]:
    """All meetings that the classes' first ranks take part in, each once.

    Raises SimulateError where ranks do not agree on what they communicate.
    """
    class_of = {rank: c for c, ranks in enumerate(classes) for rank in ranks}
    found: dict[tuple[object, ...], Met] = {}
    for ranks in classes:
        for channel, _ in network.of_rank.get(ranks[0], ()):
            for met in _on(network, channel, class_of, machine):
                found.setdefault(met.parts, met)
    return list(found.values())


def _on(
    network: Network, channel: Channel, class_of: dict[int, int], machine: Machine
) -> list[Met]:
    members = network.channels[channel]
    _check_agreement(network, channel, members)
    script = network.scripts[network.script_of[members[0].rank]]
    found = []
    for n, place in enumerate(members[0].places):
        what, size = communication_at(script, place)
        parts: dict[Part, bool] = {}  # and whether it receives
        for member in members:
            part = (class_of[member.rank], *member.places[n])
            receives = not channel.is_message or member.rank == channel.ranks[1]
            parts[part] = parts.get(part, False) or receives
        ordered = tuple(parts) if channel.is_message else tuple(sorted(parts))
        receivers = tuple(i for i, part in enumerate(ordered) if parts[part])
        asked = (what.kind, size, channel.ranks)
        us, busy = machine.collective_us(*asked), machine.busy(*asked)
        lane = machine.lane(what.kind, channel.ranks)
        found.append(Met(ordered, us, lane, receivers, busy, *asked))
    return found


def _check_agreement(network: Network, channel: Channel, members: Sequence[Member]) -> None:
    """Raises SimulateError unless all ranks of a channel call the same, in the same order."""
    missing = set(channel.ranks) - {m.rank for m in members}
    if missing:
        said = f"{_said(network, members[0], 0)}, rank {min(missing)} never does"
        raise SimulateError(f"{_title(channel)}: {said}")
    first, seen = members[0], {members[0].list_id}
    for member in members[1:]:
        if member.list_id in seen:
            continue
        seen.add(member.list_id)
        for n in range(max(len(first.places), len(member.places))):
            if _agreed(network, first, n) != _agreed(network, member, n):
                said = f"{_said(network, first, n)}, {_said(network, member, n)}"
                raise SimulateError(f"{_title(channel)}, number {n}: {said}")


def _agreed(network: Network, member: Member, number: int) -> object:
    """What the members have to agree on; None where there is no such communication."""
    if number >= len(member.places):
        return None
    script, place = network.scripts[network.script_of[member.rank]], member.places[number]
    what, size = communication_at(script, place)
    if what.constant == EVERYONE:
        return what.kind, size
    call = script.calls[script.postings[place[0]].call]
    return what.kind, size, call.time, call.doc


def _said(network: Network, member: Member, number: int) -> str:
    if number >= len(member.places):
        return f"rank {member.rank} calls nothing more"
    script, place = network.scripts[network.script_of[member.rank]], member.places[number]
    what, size = communication_at(script, place)
    call = script.calls[script.postings[place[0]].call]
    time = ", ".join(str(t) for t in call.time)
    moved = f" ({call.doc})" if call.doc else ""
    return f"rank {member.rank} calls {what.kind} of {size} bytes in {call.function}({time}){moved}"


def _title(channel: Channel) -> str:
    if channel.is_message:
        return f"messages from rank {channel.ranks[0]} to rank {channel.ranks[1]}"
    return f"collectives of ranks {list(channel.ranks)}"

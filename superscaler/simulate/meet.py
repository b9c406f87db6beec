"""Meet: which communications of which classes are one and the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from superscaler.simulate.engine import Meeting, Part
from superscaler.simulate.fold import Channel, Network, communication_at
from superscaler.simulate.machine import Machine


@dataclass(frozen=True, slots=True)
class Met(Meeting):
    """A meeting, with what it is: `ranks` are those of one of the meetings that are alike."""

    kind: str = ""
    num_bytes: int = 0
    ranks: tuple[int, ...] = ()


def meetings(network: Network, classes: Sequence[tuple[int, ...]], machine: Machine) -> list[Met]:
    """All meetings that the classes' first ranks take part in, each once."""
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
    assert len(members) == len(channel.ranks), f"some of ranks {channel.ranks} do not take part"
    assert len({len(m.places) for m in members}) == 1, f"ranks {channel.ranks} do not agree"
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
        us = machine.collective_us(what.kind, size, channel.ranks)
        lane = machine.lane(what.kind, channel.ranks)
        found.append(Met(ordered, us, lane, receivers, what.kind, size, channel.ranks))
    return found

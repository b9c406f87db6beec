"""Traffic: who sends how much to whom, and over which link."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from superscaler.simulate.events.fold import Network
from superscaler.simulate.events.meet import Met
from superscaler.simulate.machine import Machine
from superscaler.simulate.simulation import Traffic


def sent_by_link(
    classes: Sequence[tuple[int, ...]], met: Sequence[Met], machine: Machine
) -> list[dict[str, int]]:
    """Per class: the bytes that one of its ranks sends, by link."""
    total: list[Counter[str]] = [Counter() for _ in classes]
    for meeting in met:
        size = machine.sent_bytes(meeting.kind, meeting.num_bytes, len(meeting.ranks))
        senders = meeting.parts[:1] if meeting.kind == "move" else meeting.parts
        for c, _, _ in senders:
            total[c][meeting.lane] += size
    return [dict(sorted(t.items())) for t in total]


def traffic(
    network: Network, classes: Sequence[tuple[int, ...]], met: Sequence[Met], machine: Machine
) -> list[Traffic]:
    """Totals from class to class; of a collective every other member gets an equal share."""
    class_of = {rank: c for c, ranks in enumerate(classes) for rank in ranks}
    total: Counter[tuple[int, int]] = Counter()
    for meeting in met:
        ranks = meeting.ranks
        size = machine.sent_bytes(meeting.kind, meeting.num_bytes, len(ranks))
        if meeting.kind == "move":
            a, b = class_of[ranks[0]], class_of[ranks[1]]
            total[a, b] += size * len(classes[a])
            continue
        counts = Counter(class_of[r] for r in ranks)
        for a in sorted({c for c, _, _ in meeting.parts}):
            for b, count in sorted(counts.items()):
                others = count - (a == b)
                total[a, b] += size * len(classes[a]) * others // max(len(ranks) - 1, 1)
    return [Traffic(a, b, n) for (a, b), n in sorted(total.items()) if n]

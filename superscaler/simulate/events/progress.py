"""Progress: does every rank get to its end when it does one communication after the other?

The engine lets communications overtake each other, as Gloo does. NCCL runs those of one stream in
order, so a program has to come to its end in order, too; sends wait for nobody. This is a dry run
without times, and shares nothing with `emit.deadlocks`, which looks for cycles in the text.
"""

from __future__ import annotations

from collections.abc import Sequence

from superscaler.errors import SimulateError
from superscaler.simulate.events.meet import Met
from superscaler.simulate.scripts.script import Script

Place = tuple[int, int]  # class, number of a posting in its script


def check_progress(
    scripts: Sequence[Script], met: Sequence[Met], classes: Sequence[tuple[int, ...]]
) -> None:
    """Run the communications of all classes in order.

    Raises SimulateError that says where each rank stands when none can go on.
    """
    sides = _sides(met)
    at = [0] * len(scripts)
    waiting: dict[Place, list[int]] = {}  # a place that nobody has come to -> classes that wait
    ready = list(range(len(scripts)))
    while ready:
        who = ready.pop()
        while at[who] < len(scripts[who].postings):
            ready += waiting.pop((who, at[who]), ())
            missing = next((p for p in sides.get((who, at[who]), ()) if at[p[0]] < p[1]), None)
            if missing is not None:
                waiting.setdefault(missing, []).append(who)
                break
            at[who] += 1
    stuck = [w for w, number in enumerate(at) if number < len(scripts[w].postings)]
    if stuck:
        raise SimulateError(_text(scripts, classes, sides, at, stuck))


def _sides(met: Sequence[Met]) -> dict[Place, list[Place]]:
    """Per posting: those of others that must have come before it is over; none for sends."""
    found: dict[Place, list[Place]] = {}
    for meeting in met:
        for number in meeting.receivers:
            who, post, _ = meeting.parts[number]
            others = [(w, p) for w, p, _ in meeting.parts if (w, p) != (who, post)]
            found.setdefault((who, post), []).extend(others)
    return found


def _text(
    scripts: Sequence[Script],
    classes: Sequence[tuple[int, ...]],
    sides: dict[Place, list[Place]],
    at: Sequence[int],
    stuck: Sequence[int],
) -> str:
    lines = ["the ranks wait for each other and never go on"]
    for who in stuck:
        missing = [p for p in sides[who, at[who]] if at[p[0]] < p[1]]
        needed, where = missing[0], _named(scripts, (who, at[who]))
        there = _named(scripts, needed)
        lines.append(
            f"  rank {classes[who][0]} stands at {where} and waits for rank "
            f"{classes[needed[0]][0]}: {there}, which it does after "
            f"{_named(scripts, (needed[0], at[needed[0]]))}"
        )
    lines.append("  change the order of one of these ranks' tasks")
    return "\n".join(lines)


def _named(scripts: Sequence[Script], place: Place) -> str:
    posting = scripts[place[0]].postings[place[1]]
    call = scripts[place[0]].calls[posting.call]
    time = ", ".join(str(t) for t in call.time)
    return f"{posting.communication.kind} of {call.function}({time})"

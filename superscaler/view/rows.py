"""Rows: the events of a simulation by rank class and lane, as every picture draws them."""

from __future__ import annotations

from dataclasses import dataclass

from superscaler.simulate.simulation import Event, Simulation

_FIRST = ("compute", "host", "copy in", "copy out")


@dataclass(frozen=True, slots=True)
class Row:
    """A lane of a class of ranks (`rank_class` is its number), its events by start."""

    rank_class: int
    lane: str
    events: tuple[Event, ...]


def rows_of(simulation: Simulation) -> tuple[Row, ...]:
    """Every lane that has events, classes in order, compute first, links by name."""
    rows = []
    for number, rank_class in enumerate(simulation.classes):
        lanes: dict[str, list[Event]] = {"compute": []}
        for event in rank_class.events:
            lanes.setdefault(event.lane, []).append(event)
        for lane in sorted(lanes, key=_place):
            events = sorted(lanes[lane], key=lambda e: (e.start_us, e.end_us))
            rows.append(Row(number, lane, tuple(events)))
    return tuple(rows)


def _place(lane: str) -> tuple[int, str]:
    return (_FIRST.index(lane) if lane in _FIRST else len(_FIRST), lane)


def pieces(row: Row) -> list[tuple[float, float]]:
    """Per event, how long its call had run before it, and runs in all (us).

    A call that waits in its middle is several events; its operators' offsets count what runs.
    """
    ran: dict[tuple[int, tuple[int, ...]], float] = {}
    before = []
    for event in row.events:
        call = (event.function, event.time)
        before.append(ran.get(call, 0.0))
        if event.kind == "run":
            ran[call] = before[-1] + event.end_us - event.start_us
    return [(b, ran.get((e.function, e.time), 0.0)) for b, e in zip(before, row.events)]


def kind_of(simulation: Simulation, event: Event) -> str:
    """The key of `palette.MARKS` that an event looks like: its function's kind, unless it waits."""
    if event.kind == "wait":
        return "wait"
    if event.kind == "communication":
        return "C"
    return simulation.functions[event.function].kind if event.function >= 0 else "X"

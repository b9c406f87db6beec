"""JSON: a simulation as text and back, without loss; tables are lists of rows."""

from __future__ import annotations

import json
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any

from superscaler.errors import SimulateError
from superscaler.simulate.simulation import (
    Event,
    FunctionInfo,
    Holder,
    OperatorInfo,
    RankClass,
    Simulation,
    Traffic,
)

FORMAT = 1
_PLAIN = (
    "name",
    "cluster",
    "world_size",
    "step_us",
    "link_bytes",
    "flops",
    "peak_tflops",
    "schedule",
    "plan",
    "notes",
)
_CLASS_PLAIN = (
    "ranks",
    "program",
    "resident_bytes",
    "peak_bytes",
    "capacity_bytes",
    "busy_us",
    "exposed_us",
    "sent_bytes",
    "memory",
    "host_peak_bytes",
)


def simulation_to_json(simulation: Simulation) -> str:
    """The text that `simulation_from_json` reads; a class of ranks and a function to a line."""
    plain = {name: getattr(simulation, name) for name in _PLAIN}
    rows = [f'"format": {FORMAT}', *(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in plain.items())]
    rows.append(f'"traffic": {json.dumps([astuple(t) for t in simulation.traffic])}')
    functions = [
        [f.name, f.kind, f.stage, f.doc, [astuple(o) for o in f.operators]]
        for f in simulation.functions
    ]
    for name, table in (
        ("functions", functions),
        ("classes", [_class_out(c) for c in simulation.classes]),
    ):
        body = ",\n".join(json.dumps(row) for row in table)
        rows.append(f'"{name}": [\n{body}\n]')
    return "{\n" + ",\n".join(rows) + "\n}\n"


def simulation_from_json(text: str, origin: str = "simulation") -> Simulation:
    """The simulation of such a text. Raises SimulateError when it is none, beginning with
    `origin`."""
    try:
        data = json.loads(text)
        if data["format"] != FORMAT:
            raise SimulateError(
                f"{origin}: is of format {data['format']}, this version of superscaler reads "
                f"format {FORMAT}; simulate the program again"
            )
        plain = {name: data[name] for name in _PLAIN}
        plain["notes"] = tuple(plain["notes"])
        return Simulation(
            **plain,
            traffic=tuple(Traffic(*row) for row in data["traffic"]),
            functions=tuple(_function_in(row) for row in data["functions"]),
            classes=tuple(_class_in(row) for row in data["classes"]),
        )
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise SimulateError(
            f"{origin}: not a simulation ({type(error).__name__}: {error}); write one with "
            "superscaler simulate --out"
        ) from None


def read_simulation(path: str | Path) -> Simulation:
    """A simulation from its file. Raises SimulateError when there is none, or it is malformed."""
    try:
        text = Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise SimulateError(
            f"simulation {str(path)!r} cannot be read: {error}; write one with superscaler "
            "simulate --out"
        ) from None
    return simulation_from_json(text, f"simulation {str(path)!r}")


def _class_out(found: RankClass) -> dict[str, Any]:
    plain = {name: getattr(found, name) for name in _CLASS_PLAIN}
    holders = [astuple(h) for h in found.holders]
    names = [f.name for f in fields(Event)]
    events = [[getattr(e, name) for name in names] for e in found.events]
    return {**plain, "holders": holders, "events": events}


def _class_in(row: dict[str, Any]) -> RankClass:
    plain = {name: row[name] for name in _CLASS_PLAIN}
    plain["ranks"] = tuple(plain["ranks"])
    plain["memory"] = tuple((float(us), int(n)) for us, n in plain["memory"])
    return RankClass(
        **plain,
        holders=tuple(Holder(*h) for h in row["holders"]),
        events=tuple(_event_in(e) for e in row["events"]),
    )


def _event_in(row: list[Any]) -> Event:
    values: list[Any] = [tuple(v) if isinstance(v, list) else v for v in row]
    return Event(*values)


def _function_in(row: list[Any]) -> FunctionInfo:
    name, kind, stage, doc, operators = row
    return FunctionInfo(name, kind, stage, doc, tuple(OperatorInfo(*o) for o in operators))

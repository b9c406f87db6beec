"""Payload: a simulation as the page's scripts read it, small enough for a million events.

What events share (function, name, peers, bytes) is said once and referred to by number; the rest
are columns of numbers. One blob: a JSON head, then the columns; compressed, as base64.
"""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any

import numpy as np

from superscaler.simulate.simulation import FunctionInfo, OperatorInfo, RankClass, Simulation
from superscaler.units import ranks_text
from superscaler.view.palette import HUES, MARKS, NEUTRAL, WAIT
from superscaler.view.rows import Row, kind_of, pieces, rows_of

MOST_MEMORY_POINTS = 400_000  # of all classes; beyond, curves keep the extremes of short spans
_LEAST_TICK_US = 0.001
_MOST_TICKS = 2**31


def payload(simulation: Simulation) -> str:
    """The blob as base64 text; `page/data.js` is its reader."""
    head, columns = parts(simulation)
    text = json.dumps(head, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 4) % 8)
    blob = np.uint32(len(text)).tobytes() + text + b"".join(columns)
    return base64.b64encode(gzip.compress(blob, 6, mtime=0)).decode()


def parts(simulation: Simulation) -> tuple[dict[str, Any], list[bytes]]:
    """The head, and the columns that it describes, each padded to 8 bytes."""
    rows = rows_of(simulation)
    tick = _tick_us(simulation)
    tables = _Tables(simulation)
    columns = [c for row in rows for c in _event_columns(row, tables, tick)]
    curves = [_curve(c, len(simulation.classes)) for c in simulation.classes]
    for times, held in curves:
        columns += [_deltas(np.rint(times / tick)), held.astype(np.float64)]
    head = {
        "name": simulation.name,
        "tick_us": tick,
        "step_us": simulation.step_us,
        "world_size": simulation.world_size,
        "rows": [[row.rank_class, row.lane, len(row.events)] for row in rows],
        "classes": [_class_head(c, len(t)) for c, (t, _) in zip(simulation.classes, curves)],
        "functions": [_function_head(f) for f in simulation.functions],
        "templates": list(tables.templates),
        "moments": list(tables.moments),
        "traffic": [[t.source, t.target, t.num_bytes] for t in simulation.traffic],
        "hues": HUES,
        "neutral": NEUTRAL,
        "wait": WAIT,
        "marks": {k: [m.letter, m.title, m.tint, bool(m.hatch)] for k, m in MARKS.items()},
    }
    return head, [_padded(column.tobytes()) for column in columns]


class _Tables:
    """What many events share, numbered in order of appearance."""

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        self.templates: dict[tuple[Any, ...], int] = {}
        self.moments: dict[tuple[Any, ...], int] = {}
        self._peers: dict[tuple[int, ...], str] = {}

    def template(self, event: Any) -> int:
        if event.peers not in self._peers:
            self._peers[event.peers] = ranks_text(event.peers)
        kind = kind_of(self.simulation, event)
        peers = self._peers[event.peers]
        key = (event.function, kind, event.what, event.num_bytes, peers)
        return self.templates.setdefault(key, len(self.templates))

    def moment(self, event: Any) -> int:
        return self.moments.setdefault((event.microbatch, event.time), len(self.moments))


def _tick_us(simulation: Simulation) -> float:
    ends = [e.end_us for c in simulation.classes for e in c.events[-1:]]
    return max(_LEAST_TICK_US, 1.5 * max([simulation.step_us, *ends]) / _MOST_TICKS)


def _event_columns(row: Row, tables: _Tables, tick: float) -> list[np.ndarray]:
    start = np.array([e.start_us for e in row.events], dtype=np.float64)
    end = np.array([e.end_us for e in row.events], dtype=np.float64)
    first, last = np.rint(start / tick), np.rint(end / tick)
    ran = np.array(pieces(row), dtype=np.float64).reshape(-1, 2)
    return [
        _deltas(first),
        (last - first).astype(np.uint32),
        np.array([tables.template(e) for e in row.events], dtype=np.uint32),
        np.array([tables.moment(e) for e in row.events], dtype=np.uint32),
        np.rint(ran[:, 0] / tick).astype(np.uint32),
        np.rint(ran[:, 1] / tick).astype(np.uint32),
    ]


def _deltas(numbers: np.ndarray) -> np.ndarray:
    return np.diff(numbers, prepend=0).astype(np.uint32)


def _padded(column: bytes) -> bytes:
    return column + b"\0" * (-len(column) % 8)


def _curve(rank_class: RankClass, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Times and bytes of a class's memory; of too many points the extremes, the peak among them."""
    points = np.array(rank_class.memory or ((0.0, rank_class.resident_bytes),), dtype=np.float64)
    most = max(MOST_MEMORY_POINTS // num_classes, 200)
    if len(points) > most:
        kept = set()
        for span in np.array_split(np.arange(len(points)), most // 2):
            held = points[span, 1]
            kept |= {int(span[held.argmax()]), int(span[held.argmin()])}
        points = points[sorted(kept | {0, len(points) - 1})]
    return points[:, 0], points[:, 1]


def _class_head(rank_class: RankClass, num_points: int) -> dict[str, Any]:
    return {
        "name": rank_class.name,
        "ranks": ranks_text(rank_class.ranks),
        "count": len(rank_class.ranks),
        "peak": rank_class.peak_bytes,
        "capacity": rank_class.capacity_bytes,
        "points": num_points,
    }


def _function_head(function: FunctionInfo) -> list[Any]:
    operators = [
        (o.name, o.target, o.module, o.source, o.shapes, o.num_bytes, *_rounded(o))
        for o in function.operators
    ]
    return [function.name, function.kind, function.stage, function.doc, operators]


def _rounded(operator: OperatorInfo) -> tuple[float, float]:
    return round(operator.offset_us, 3), round(operator.duration_us, 3)

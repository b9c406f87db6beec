"""Perfetto: a simulation in Chrome's trace-event format, for ui.perfetto.dev.

A class of ranks is a process, a lane a thread, a task a complete event ("X") around its operators,
a message a flow ("s" to "f"), memory a counter ("C"). Times are microseconds, as the format asks.
Format: "Trace Event Format", the Chromium project.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterator
from typing import Any

from superscaler.simulate.simulation import Event, Simulation
from superscaler.view.rows import Row, kind_of, pieces, rows_of

MOST_OPERATORS = 300_000  # slices of operators inside tasks; beyond, tasks only

Record = dict[str, Any]


def perfetto_json(simulation: Simulation) -> str:
    """The trace as JSON text, one event a line."""
    lines = (json.dumps(record, separators=(",", ":")) for record in trace_events(simulation))
    other = {"name": simulation.name, "cluster": simulation.cluster, "step_us": simulation.step_us}
    tail = f'"displayTimeUnit":"ms","otherData":{json.dumps(other)}'
    return '{"traceEvents":[\n' + ",\n".join(lines) + "\n]," + tail + "}\n"


def trace_events(simulation: Simulation) -> Iterator[Record]:
    """Names first, then each row's tasks, then messages and memory."""
    rows = rows_of(simulation)
    yield from _names(simulation, rows)
    with_operators = _num_operators(simulation) <= MOST_OPERATORS
    for tid, row in enumerate(rows):
        for event, piece in zip(row.events, pieces(row)):
            yield _task(simulation, row, tid, event)
            if with_operators and event.kind == "run":
                yield from _operators(simulation, row, tid, event, piece)
    yield from _flows(simulation, rows)
    for pid, rank_class in enumerate(simulation.classes):
        for at, held in rank_class.memory:
            yield {"ph": "C", "name": "memory", "pid": pid, "tid": 0, "ts": at} | {
                "args": {"bytes": held}
            }


def _names(simulation: Simulation, rows: tuple[Row, ...]) -> Iterator[Record]:
    for pid, rank_class in enumerate(simulation.classes):
        base = {"ph": "M", "pid": pid, "tid": 0, "ts": 0}
        yield {**base, "name": "process_name", "args": {"name": rank_class.name}}
        yield {**base, "name": "process_sort_index", "args": {"sort_index": pid}}
    for tid, row in enumerate(rows):
        base = {"ph": "M", "pid": row.rank_class, "tid": tid, "ts": 0}
        yield {**base, "name": "thread_name", "args": {"name": row.lane}}
        yield {**base, "name": "thread_sort_index", "args": {"sort_index": tid}}


def _num_operators(simulation: Simulation) -> int:
    counts = [len(f.operators) for f in simulation.functions]
    return sum(
        counts[e.function]
        for c in simulation.classes
        for e in c.events
        if e.function >= 0 and e.kind == "run"
    )


def _task(simulation: Simulation, row: Row, tid: int, event: Event) -> Record:
    kind = kind_of(simulation, event)
    function = simulation.functions[event.function] if event.function >= 0 else None
    what = event.what or (function.name if function else kind)
    args: Record = {"kind": kind, "microbatch": event.microbatch, "time": list(event.time)}
    if function:
        args |= {"function": function.name, "stage": function.stage}
    if function and function.doc:
        args["moves"] = function.doc
    if event.num_bytes:
        args |= {"bytes": event.num_bytes, "peers": list(event.peers)}
    return _slice(row, tid, what, kind, event.start_us, event.end_us - event.start_us, args)


def _slice(
    row: Row, tid: int, name: str, category: str, at: float, took: float, args: Record
) -> Record:
    base = {"ph": "X", "name": name, "cat": category, "pid": row.rank_class, "tid": tid}
    return {**base, "ts": round(at, 3), "dur": round(max(took, 0.0), 3), "args": args}


def _operators(
    simulation: Simulation, row: Row, tid: int, event: Event, piece: tuple[float, float]
) -> Iterator[Record]:
    """The operators that a task's event covers, stretched to the call's length."""
    operators = simulation.functions[event.function].operators if event.function >= 0 else ()
    if not operators:
        return
    whole = operators[-1].offset_us + operators[-1].duration_us
    stretch = piece[1] / whole if whole else 0.0
    shift = event.start_us - piece[0]
    for number, op in enumerate(operators):
        nexts = [o.offset_us for o in operators[number + 1 : number + 2]]
        last = min(op.offset_us + op.duration_us, *nexts) if nexts else whole
        at = max(shift + op.offset_us * stretch, event.start_us)
        took = min(shift + last * stretch, event.end_us) - at
        if took <= 0:
            continue
        args: Record = {"module": op.module, "operator": op.name, "source": op.source}
        args |= {"shapes": op.shapes, "bytes": op.num_bytes}
        yield _slice(row, tid, op.target, "operator", at, took, args)


def _flows(simulation: Simulation, rows: tuple[Row, ...]) -> Iterator[Record]:
    """From every message to what its receivers do when it has arrived."""
    class_of = {r: k for k, c in enumerate(simulation.classes) for r in c.ranks}
    lanes = {row.rank_class: (tid, row) for tid, row in enumerate(rows) if row.lane == "compute"}
    ends = {k: [e.end_us for e in row.events] for k, (_, row) in lanes.items()}
    number = 0
    for tid, row in enumerate(rows):
        for event in row.events:
            if event.kind != "communication" or not event.num_bytes:
                continue
            targets = {class_of[p] for p in event.peers if p in class_of} - {row.rank_class}
            for target in sorted(targets):
                there, lane = lanes[target]
                at = bisect_right(ends[target], event.end_us)
                if at == len(lane.events):
                    continue
                arrival = max(lane.events[at].start_us, event.end_us)
                yield from _flow(event, number, (row.rank_class, tid), (target, there), arrival)
                number += 1


def _flow(
    event: Event, number: int, source: tuple[int, int], target: tuple[int, int], arrival: float
) -> Iterator[Record]:
    base: Record = {"cat": "message", "name": event.what or "message", "id": number}
    first = {"pid": source[0], "tid": source[1], "ts": round(event.start_us, 3)}
    last = {"pid": target[0], "tid": target[1], "ts": round(arrival, 3)}
    yield {**base, "ph": "s", **first}
    yield {**base, "ph": "f", "bp": "e", **last}

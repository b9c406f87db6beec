"""The Perfetto file against the trace-event format, and against the simulation."""

from __future__ import annotations

import json
from dataclasses import replace

import jsonschema
import pytest
from fake_steps import one_f_one_b
from trace_format import METADATA, SCHEMA

from superscaler.view import perfetto_json


@pytest.fixture(scope="module")
def trace() -> dict:
    return json.loads(perfetto_json(one_f_one_b(4, 8)))


def of(trace: dict, phase: str) -> list[dict]:
    return [e for e in trace["traceEvents"] if e["ph"] == phase]


def test_it_keeps_to_the_format(trace: dict) -> None:
    jsonschema.validate(trace, SCHEMA)
    assert {e["name"] for e in of(trace, "M")} == METADATA


def test_the_schema_refuses_what_breaks_the_format(trace: dict) -> None:
    broken = {"traceEvents": [{k: v for k, v in of(trace, "X")[0].items() if k != "dur"}]}
    with pytest.raises(jsonschema.ValidationError, match="'dur' is a required property"):
        jsonschema.validate(broken, SCHEMA)


def test_every_thread_that_is_used_has_a_name(trace: dict) -> None:
    named = {(e["pid"], e["tid"]) for e in of(trace, "M") if e["name"] == "thread_name"}
    assert {(e["pid"], e["tid"]) for e in of(trace, "X")} <= named


def test_tasks_and_the_operators_inside_them(trace: dict) -> None:
    step = one_f_one_b(4, 8)
    tasks = [e for e in of(trace, "X") if e["cat"] != "operator"]
    assert len(tasks) == sum(len(c.events) for c in step.classes)
    first = next(e for e in tasks if e["name"] == "forward_0" and e["args"]["microbatch"] == 0)
    inside = [e for e in of(trace, "X") if e["cat"] == "operator" and _within(e, first)]
    assert [e["args"]["module"] for e in inside][:2] == ["layers.0.norm", "layers.0.attn.qkv"]
    assert inside[1]["args"]["source"] == "gpt.py:41"


def _within(inner: dict, outer: dict) -> bool:
    same = (inner["pid"], inner["tid"]) == (outer["pid"], outer["tid"])
    end = outer["ts"] + outer["dur"] + 0.01
    return same and outer["ts"] <= inner["ts"] and inner["ts"] + inner["dur"] <= end


def test_a_call_that_waits_in_its_middle_shows_each_operator_once() -> None:
    step = one_f_one_b(4, 8)
    events = list(step.classes[0].events)
    first = next(e for e in events if e.what == "forward_0" and e.microbatch == 3)
    half = (first.start_us + first.end_us) / 2
    events[events.index(first)] = replace(first, end_us=half)
    events.append(replace(first, start_us=half + 50, end_us=first.end_us + 50))
    changed = replace(step.classes[0], events=tuple(sorted(events, key=lambda e: e.start_us)))
    found = json.loads(perfetto_json(replace(step, classes=(changed, *step.classes[1:]))))
    inside = [e for e in of(found, "X") if e["cat"] == "operator" and e["pid"] == 0]
    since, until = first.start_us - 0.001, first.end_us + 50.001
    took = sum(e["dur"] for e in inside if e["ts"] >= since and e["ts"] + e["dur"] <= until)
    assert took == pytest.approx(first.end_us - first.start_us, abs=0.1)


def test_memory_is_a_counter_with_the_peak(trace: dict) -> None:
    held = [e["args"]["bytes"] for e in of(trace, "C") if e["pid"] == 0]
    assert max(held) == one_f_one_b(4, 8).classes[0].peak_bytes


def test_messages_are_flows_that_begin_and_end(trace: dict) -> None:
    starts = {e["id"]: e for e in of(trace, "s")}
    ends = {e["id"]: e for e in of(trace, "f")}
    assert starts
    assert starts.keys() == ends.keys()
    assert all(starts[i]["ts"] <= ends[i]["ts"] for i in starts)
    assert all(starts[i]["pid"] != ends[i]["pid"] for i in starts)

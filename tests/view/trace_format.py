"""Chrome's trace-event format as a JSON schema, for what we write of it.

After "Trace Event Format" (the Chromium project): which fields each phase must have.
"""

from __future__ import annotations

from typing import Any

_WHERE = {"pid": {"type": "integer"}, "tid": {"type": "integer"}}
_TIME = {"ts": {"type": "number", "minimum": 0}}
_NAME = {"name": {"type": "string", "minLength": 1}}
_ARGS = {"args": {"type": "object"}}


def _event(phase: str, more: dict[str, Any], optional: dict[str, Any]) -> dict[str, Any]:
    must = {"ph": {"const": phase}, **_WHERE, **_TIME, **_NAME, **more}
    return {
        "if": {"properties": {"ph": {"const": phase}}},
        "then": {
            "properties": {**must, **optional},
            "required": list(must),
            "additionalProperties": False,
        },
    }


_CATEGORY = {"cat": {"type": "string"}}
_NUMBER = {"id": {"type": ["integer", "string"]}}
SCHEMA = {
    "type": "object",
    "required": ["traceEvents"],
    "properties": {
        "displayTimeUnit": {"enum": ["ms", "ns"]},
        "traceEvents": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["ph"],
                "properties": {"ph": {"enum": ["X", "M", "C", "s", "f"]}},
                "allOf": [
                    _event("X", {"dur": {"type": "number", "minimum": 0}}, {**_CATEGORY, **_ARGS}),
                    _event("M", _ARGS, {}),
                    _event(
                        "C",
                        {"args": {"type": "object", "additionalProperties": {"type": "number"}}},
                        _CATEGORY,
                    ),
                    _event("s", {**_NUMBER, **_CATEGORY}, _ARGS),
                    _event("f", {**_NUMBER, **_CATEGORY}, {"bp": {"const": "e"}, **_ARGS}),
                ],
            },
        },
    },
}
METADATA = {"process_name", "process_sort_index", "thread_name", "thread_sort_index"}

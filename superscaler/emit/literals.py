"""Python text of the values that operators' calls are made of."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from superscaler.graph.operator import Ref


@dataclass(frozen=True, slots=True)
class Constant:
    """A value that differs from rank to rank: `ctx[name]` in emitted code."""

    name: str


def literal(value: Any, name_of: Callable[[Ref], str]) -> str:
    """`value` (nested lists, numbers, dtypes, Refs, Constants) as Python source."""
    if isinstance(value, Ref):
        return name_of(value)
    if isinstance(value, Constant):
        return f'ctx["{value.name}"]'
    if isinstance(value, torch.device):
        return "ctx.device"
    if isinstance(value, complex):
        return f"complex({literal(value.real, name_of)}, {literal(value.imag, name_of)})"
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    if isinstance(value, torch.Size):
        return literal(list(value), name_of)
    if isinstance(value, list):
        return "[" + ", ".join(literal(v, name_of) for v in value) + "]"
    if isinstance(value, tuple):
        inside = ", ".join(literal(v, name_of) for v in value)
        return f"({inside},)" if len(value) == 1 else f"({inside})"
    if value is None or isinstance(value, (bool, int, float, str)):
        return repr(value)
    if isinstance(value, (torch.dtype, torch.layout, torch.memory_format)):
        return str(value)
    raise AssertionError(f"no literal for {type(value)}")


def call_text(
    target: str, args: tuple[Any, ...], kwargs: dict[str, Any], name_of: Callable[[Ref], str]
) -> str:
    """The source of one operator call: `aten.mm.default(a, b)`."""
    namespace, rest = target.split(".", 1)
    prefix = {"aten": "aten", "superscaler": "ss"}.get(namespace, f"torch.ops.{namespace}")
    inside = [literal(a, name_of) for a in args]
    inside += [f"{k}={literal(v, name_of)}" for k, v in kwargs.items()]
    return f"{prefix}.{rest}({', '.join(inside)})"

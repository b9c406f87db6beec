"""Names of operators, batch leaves and modules: readable, and unique in their graph."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from torch.utils._pytree import KeyPath

from superscaler.graph.operator import Phase

_REPEATED_CALL = re.compile(r"@\d+")
_PREFIX = re.compile(r"^_+(native_|unsafe_|fused_)?|^native_")
_BACKWARD = re.compile(r"(_dense)?_backward(_data)?$")


class Namer:
    """Hands out unique names: the second `mm` is `mm:2`."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)
        self._count: dict[str, int] = {}

    def unique(self, name: str) -> str:
        """`name`, or `name:n` with the first n that is free."""
        number = self._count.get(name, 0) + 1
        found = name if number == 1 else f"{name}:{number}"
        while found in self._taken:
            number += 1
            found = f"{name}:{number}"
        self._count[name] = number
        self._taken.add(found)
        return found


class _Named(Protocol):
    name: str
    target: str
    module: str
    phase: Phase


def base_name(operator: _Named) -> str:
    """`layers.0.mlp.fc1.mm`, and `layers.0.mlp.fc1.mm.bwd` in the backward."""
    if operator.name:
        return operator.name
    short = short_name(operator.target)
    if operator.phase is Phase.BACKWARD:
        short += ".bwd"
    return f"{operator.module}.{short}" if operator.module else short


def short_name(target: str) -> str:
    """`aten._softmax_backward_data.default` -> `softmax`."""
    name = target.split(".")[1]
    return _BACKWARD.sub("", _PREFIX.sub("", name)) or name


def module_path(stack: Mapping[str, tuple[str, Any]] | None) -> str:
    """The innermost module's path in an fx module stack, without the step's own prefix."""
    if not stack:
        return ""
    path = _REPEATED_CALL.sub("", list(stack.values())[-1][0])
    return path.removeprefix("model").removeprefix(".")


def leaf_name(path: KeyPath) -> str:
    """A batch leaf's place in the batch: "input_ids", "0", "images.1"; "batch" if it is all."""
    parts = [
        str(getattr(key, "key", getattr(key, "idx", getattr(key, "name", key)))) for key in path
    ]
    return ".".join(parts) or "batch"

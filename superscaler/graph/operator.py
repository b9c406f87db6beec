"""Operator: one call of the training step, on logical tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Phase(Enum):
    """Which part of the training step an operator belongs to."""

    FORWARD = "forward"
    BACKWARD = "backward"
    UPDATE = "update"


@dataclass(frozen=True, slots=True)
class Ref:
    """Stands in `Operator.args` for the operator's input number `position`."""

    position: int


AGAIN = ".again"  # ends the names of operators that run again


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator of the joint graph.

    `target` is the qualified name of a torch operator (`aten.mm.default`) or of one of ours
    (`superscaler.attention.default`). `args` and `kwargs` are templates: literals, lists, and a
    `Ref(i)` wherever input i (`inputs[i]`, a PTensor id) goes; an input may be referred to once
    only, so a tensor passed twice is two inputs. `forward` is, for a backward operator, the id of
    the forward operator it differentiates, or that it is run again (-1 when unknown).
    """

    id: int
    name: str
    target: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(hash=False)
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    phase: Phase
    module: str = ""  # dotted module path, "" at the top
    source: str = ""  # "file.py:12, in forward"
    forward: int = -1

    @property
    def runs_again(self) -> bool:
        """Whether it makes for the backward what the forward made before."""
        return self.name.endswith(AGAIN)


def map_refs(template: Any, function: Callable[[Ref], Any]) -> Any:
    """`template` (nested tuples, lists, dicts, literals) with function(ref) for every Ref."""
    if isinstance(template, Ref):
        return function(template)
    if isinstance(template, (tuple, list)):
        return type(template)(map_refs(item, function) for item in template)
    if isinstance(template, dict):
        return {key: map_refs(item, function) for key, item in template.items()}
    return template

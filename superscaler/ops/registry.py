"""The table of rules by operator, and `register_op` for a user's own."""

from __future__ import annotations

from collections.abc import Callable

from superscaler.graph.rule import IterationAxis, LocalFunction, Operands, Rule, RuleFunction
from superscaler.ops.annotation import parse

RULES: dict[str, RuleFunction] = {}


def rule(*targets: str) -> Callable[[RuleFunction], RuleFunction]:
    """Decorator: the function is the rule of these operators (`aten.mm.default`)."""

    def register(function: RuleFunction) -> RuleFunction:
        for target in targets:
            RULES[target] = function
        return function

    return register


def annotated(
    annotation: str,
    *,
    linear: tuple[frozenset[int], ...] = (),
    local: LocalFunction | None = None,
    is_view: bool = False,
) -> RuleFunction:
    """A rule that is an annotation string and nothing else."""

    def function(op: Operands) -> Rule:
        inputs, outputs, axes = parse(annotation, op.inputs, op.outputs)
        return Rule(inputs, outputs, axes, linear=linear, local=local, is_view=is_view)

    return function


def register_op(
    target: str,
    annotation: str,
    *,
    linear: tuple[frozenset[int], ...] = (),
    local: LocalFunction | None = None,
) -> None:
    """Give the operator `target` ("mylib.gelu.default") the axes of `annotation`.

    Raises ValueError when the annotation has no "->".
    """
    if "->" not in annotation:
        raise ValueError(f"register_op({target!r}): annotation {annotation!r} has no '->'")
    RULES[target] = annotated(annotation, linear=linear, local=local)


def frozen_rule(op: Operands) -> Rule:
    """The rule of an operator without one: every dim of every tensor is frozen, by itself."""
    axes: dict[str, IterationAxis] = {}

    def dims(prefix: str, shape: tuple[int, ...]) -> tuple[tuple[str, ...], ...]:
        found = []
        for d, size in enumerate(shape):
            name = f"{prefix}{d}"
            if size != 1:
                axes[name] = IterationAxis(size, frozen=True)
            found.append((name,) if size != 1 else ())
        return tuple(found)

    inputs = tuple(dims(f"i{i}_", shape) for i, shape in enumerate(op.inputs))
    outputs = tuple(dims(f"o{k}_", shape) for k, shape in enumerate(op.outputs))
    return Rule(inputs, outputs, axes)

"""Rules of gated units: one half of a dim is the gate of the other."""

from __future__ import annotations

from superscaler.graph.rule import Operands, Rule
from superscaler.ops.build import LINEAR_IN_FIRST, RuleBuilder, argument
from superscaler.ops.registry import rule


@rule("aten.glu.default")
def glu(op: Operands) -> Rule:
    """`... (half^ k) ... -> ... k ...`: a part has its share of both halves."""
    build = RuleBuilder()
    dim = argument(op, 1, "dim", -1) % len(op.inputs[0])
    out = build.dims("d", op.outputs[0])
    pair = (*build.axis("half", 2, frozen=True), *out[dim])
    return build.rule(((*out[:dim], pair, *out[dim + 1 :]),), (out,))


@rule("aten.glu_backward.default")
def glu_backward(op: Operands) -> Rule:
    """The gradients of both halves."""
    grad, x = op.inputs
    forward = glu(Operands("aten.glu.default", (op.args[1], op.args[2]), {}, (x,), (grad,)))
    inputs = (*forward.outputs, *forward.inputs)
    return Rule(inputs, forward.inputs, forward.axes, linear=LINEAR_IN_FIRST)

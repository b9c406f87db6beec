"""The rule of the optimizer's update of one parameter: element-wise over all its tensors."""

from __future__ import annotations

from superscaler.graph.rule import Operands, Rule
from superscaler.ops.build import RuleBuilder
from superscaler.ops.registry import rule


@rule("superscaler.update.default", "superscaler.update")
def update(op: Operands) -> Rule:
    """Parameter, gradient and states in; new parameter and states out."""
    build = RuleBuilder()
    dims = build.dims("d", op.inputs[0])
    return build.rule((dims,) * len(op.inputs), (dims,) * len(op.outputs))

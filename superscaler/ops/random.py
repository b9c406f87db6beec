"""Rules of random operators: a part numbers its elements as in the whole."""

from __future__ import annotations

from superscaler.graph.rule import Call, Local, Operands, Rule
from superscaler.ops.build import LINEAR_IN_FIRST, RuleBuilder, argument, with_args
from superscaler.ops.registry import rule


@rule("superscaler.dropout.default")
def dropout(op: Operands) -> Rule:
    """Element-wise."""
    build = RuleBuilder()
    dims = build.dims("d", op.inputs[0])

    def local(call: Call, part: Local) -> Call:
        return with_args(call, {3: part.index(0)})

    return build.rule((dims,), (dims,), linear=LINEAR_IN_FIRST, local=local, random=True)


@rule("superscaler.uniform.default")
def uniform(op: Operands) -> Rule:
    """Random numbers in [0, 1)."""
    build = RuleBuilder()
    dims = build.dims("d", op.outputs[0])

    def local(call: Call, part: Local) -> Call:
        dtype = {k: v for k, v in call.kwargs.items() if k in ("dtype", "device")}
        args = (list(part.output_shape(0)), argument(call, 1, "op_id"), part.index(0))
        return Call(call.target, args, dtype)

    return build.rule((), (dims,), local=local, random=True)

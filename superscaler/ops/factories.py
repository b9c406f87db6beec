"""Rules of operators that make tensors from numbers: parts make their own size."""

from __future__ import annotations

import torch

from superscaler.graph.rule import Call, Local, LocalFunction, Operands, Rule
from superscaler.ops.build import RuleBuilder, argument, local_sizes
from superscaler.ops.registry import frozen_rule, rule


def _made(op: Operands, local: LocalFunction) -> Rule:
    """A tensor of a size argument; tensors that only lend their dtype may be split at will."""
    build = RuleBuilder()
    outside = build.dims("d", op.outputs[0])
    inputs = [build.dims(f"i{i}_", shape) for i, shape in enumerate(op.inputs)]
    return build.rule(inputs, (outside,), local=local)


@rule("aten.full.default", "aten.zeros.default", "aten.ones.default", "aten.empty.memory_format")
def full(op: Operands) -> Rule:
    return _made(op, local_sizes(0))


@rule(
    "aten.new_zeros.default",
    "aten.new_ones.default",
    "aten.new_full.default",
    "aten.new_empty.default",
)
def new_full(op: Operands) -> Rule:
    return _made(op, local_sizes(1))


@rule("aten.empty_strided.default")
def empty_strided(op: Operands) -> Rule:
    def local(call: Call, part: Local) -> Call:
        return Call("aten.empty.memory_format", (list(part.output_shape(0)),), call.kwargs)

    return _made(op, local)


@rule("aten.new_empty_strided.default")
def new_empty_strided(op: Operands) -> Rule:
    def local(call: Call, part: Local) -> Call:
        args = (call.args[0], list(part.output_shape(0)))
        return Call("aten.new_empty.default", args, call.kwargs)

    return _made(op, local)


@rule(
    "aten.full_like.default",
    "aten.zeros_like.default",
    "aten.ones_like.default",
    "aten.empty_like.default",
)
def full_like(op: Operands) -> Rule:
    build = RuleBuilder()
    dims = build.dims("d", op.outputs[0])
    return build.rule((dims,), (dims,))


@rule(
    "aten.arange.default",
    "aten.arange.start",
    "aten.arange.start_step",
    "prims.iota.default",
)
def arange(op: Operands) -> Rule:
    """Numbers in steps: a part needs to know how many come before it."""
    start, step = _start_and_step(op)
    build = RuleBuilder()
    numbers = build.axis("i", op.outputs[0][0], indexed=True)

    def local(call: Call, part: Local) -> Call:
        if not part.is_split("i"):
            return call
        args = (part.output_shape(0)[0], part.start("i"), start, step)
        kept = {k: v for k, v in call.kwargs.items() if k in ("dtype", "device")}
        if kept.get("dtype") is None:
            numbers = call.args if call.target != "prims.iota.default" else ()
            is_float = any(isinstance(n, float) for n in numbers)
            kept["dtype"] = torch.get_default_dtype() if is_float else torch.int64
        return Call("superscaler.arange_part.default", args, kept)

    return build.rule((), ((numbers,),), local=local)


def _start_and_step(op: Operands) -> tuple[float, float]:
    if op.target == "prims.iota.default":
        return op.kwargs.get("start", 0), op.kwargs.get("step", 1)
    if op.target == "aten.arange.default":
        return 0, 1
    return op.args[0], argument(op, 2, "step", 1)


@rule("aten.scalar_tensor.default", "aten._tensor_constant.default")
def scalar_tensor(op: Operands) -> Rule:
    return frozen_rule(op)


@rule("aten.eye.default", "aten.eye.m", "aten.linspace.default", "aten.logspace.default")
def whole(op: Operands) -> Rule:
    """Made as a whole."""
    return frozen_rule(op)


@rule("aten.tril_indices.default", "aten.triu_indices.default")
def triangle_indices(op: Operands) -> Rule:
    return frozen_rule(op)

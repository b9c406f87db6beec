"""Rules of lookups by row: a part with some of the rows adds zeros for the others."""

from __future__ import annotations

from superscaler.graph.rule import Call, Dims, Local, Operands, Rule
from superscaler.ops.build import LINEAR_IN_FIRST, RuleBuilder, argument
from superscaler.ops.registry import rule

ROWS = "v"


@rule("aten.embedding.default")
def embedding(op: Operands) -> Rule:
    """`v@+ h, ... -> ... h`"""
    (rows, width), indices = op.inputs
    build = RuleBuilder()
    v, h = build.axis(ROWS, rows, reduce="sum", indexed=True), build.axis("h", width)
    dims = build.dims("d", indices)

    def local(call: Call, part: Local) -> Call:
        if not part.is_split(ROWS):
            return call
        args = (call.args[0], call.args[1], part.start(ROWS))
        return Call("superscaler.embedding_part.default", args, {})

    return build.rule(((v, h), dims), ((*dims, h),), linear=LINEAR_IN_FIRST, local=local)


@rule("aten.embedding_dense_backward.default")
def embedding_backward(op: Operands) -> Rule:
    """`... h+, ...+ -> v@ h`; frozen where gradients are scaled by how often a row occurs."""
    rows, width = op.outputs[0]
    indices = op.inputs[1]
    by_frequency = argument(op, 4, "scale_grad_by_freq", False)
    build = RuleBuilder()
    v, h = build.axis(ROWS, rows, indexed=True, frozen=by_frequency), build.axis("h", width)
    dims = build.dims("d", indices, reduce="sum", frozen=by_frequency)

    def local(call: Call, part: Local) -> Call:
        if not part.is_split(ROWS):
            return call
        padding = argument(call, 3, "padding_idx", -1)
        args = (call.args[0], call.args[1], part.output_shape(0)[0], padding, part.start(ROWS))
        return Call("superscaler.embedding_backward_part.default", args, {})

    return build.rule(((*dims, h), dims), ((v, h),), linear=LINEAR_IN_FIRST, local=local)


@rule("aten.index_select.default")
def index_select(op: Operands) -> Rule:
    """Rows along any dim."""
    shape, (count,) = op.inputs[0], op.inputs[1] or (1,)
    dim = argument(op, 1, "dim") % len(shape)
    build = RuleBuilder()
    rest = [() if d == dim else build.axis(f"d{d}", n) for d, n in enumerate(shape)]
    v = build.axis(ROWS, shape[dim], reduce="sum", indexed=True)
    chosen = build.axis("chosen", count)

    def local(call: Call, part: Local) -> Call:
        if not part.is_split(ROWS):
            return call
        args = (call.args[0], dim, call.args[2], part.start(ROWS))
        return Call("superscaler.index_select_part.default", args, {})

    index = (chosen,) if op.inputs[1] else ()
    return build.rule(
        ((*rest[:dim], v, *rest[dim + 1 :]), index),
        ((*rest[:dim], chosen, *rest[dim + 1 :]),),
        linear=LINEAR_IN_FIRST,
        local=local,
    )


@rule(
    "aten._embedding_bag.default",
    "aten._embedding_bag_forward_only.default",
    "aten._embedding_bag_backward.default",
    "aten._embedding_bag_dense_backward.default",
    "aten._embedding_bag_per_sample_weights_backward.default",
)
def bags(op: Operands) -> Rule:
    """Bags of a flat list of rows, whose ends are data: only the width can be split.

    Bags of one size are lookups and a sum (`trace/bags.py`).
    """
    of_weights = "per_sample" in op.target
    is_backward = "backward" in op.target
    build = RuleBuilder()
    width = build.axis("h", op.inputs[0][-1], reduce="sum" if of_weights else None)

    shapes = (*op.inputs, *op.outputs)
    table = 1 if of_weights else len(op.inputs) if is_backward else 0

    def operand(i: int, shape: tuple[int, ...]) -> Dims:
        """Bags, or rows of the list, which have one axis wherever they are as many."""
        if not shape:
            return ()
        name = ROWS if i == table else f"n{shape[0]}"
        return (build.axis(name, shape[0], frozen=True), width)[: len(shape)]

    operands = [operand(i, shape) for i, shape in enumerate(shapes)]
    inputs, outputs = operands[: len(op.inputs)], operands[len(op.inputs) :]
    return build.rule(inputs, outputs, linear=LINEAR_IN_FIRST if is_backward else ())

"""Rules of normalisations that stay whole operators: layer, group and RMS norm."""

from __future__ import annotations

from superscaler.graph.rule import Call, Dims, Local, Operands, Rule
from superscaler.ops.build import LINEAR_IN_FIRST, RuleBuilder, argument, with_args
from superscaler.ops.registry import rule


def _over_last(op: Operands, x: int, normalized: int, backward: bool) -> Rule:
    """Norms over the last dims of input `x`, whose shape is argument `normalized`.

    Every operand either has all of x's dims (those normalised may be 1), or the last ones only.
    In the backward, gradients of the latter are sums over the leading dims.
    """
    shape = op.inputs[x]
    lead = len(shape) - len(op.args[normalized])
    build = RuleBuilder()
    dims = tuple(
        build.axis(f"d{d}", n, reduce="sum" if backward and d < lead else None, frozen=d >= lead)
        for d, n in enumerate(shape)
    )

    def operand(other: tuple[int, ...]) -> Dims:
        if len(other) == len(shape):
            return tuple(names if n != 1 else () for n, names in zip(other, dims))
        return dims[lead:] if other == shape[lead:] else ()

    outputs = [operand(out) for out in op.outputs]
    linear = LINEAR_IN_FIRST if backward else ()
    return build.rule([operand(i) for i in op.inputs], outputs, linear=linear)


@rule("aten.native_layer_norm.default")
def layer_norm(op: Operands) -> Rule:
    return _over_last(op, 0, 1, backward=False)


@rule("aten._fused_rms_norm.default", "aten.rms_norm.default")
def rms_norm(op: Operands) -> Rule:
    return _over_last(op, 0, 1, backward=False)


@rule("aten.native_layer_norm_backward.default", "aten._fused_rms_norm_backward.default")
def norm_backward(op: Operands) -> Rule:
    return _over_last(op, 1, 2, backward=True)


@rule("aten.native_group_norm.default")
def group_norm(op: Operands) -> Rule:
    """Samples and groups of channels are independent."""
    return _group_norm(op, 0, 3, backward=False)


@rule("aten.native_group_norm_backward.default")
def group_norm_backward(op: Operands) -> Rule:
    return _group_norm(op, 1, 5, backward=True)


def _group_norm(op: Operands, x: int, sizes_at: int, backward: bool) -> Rule:
    """Group norm; arguments from `sizes_at` are batch, channels, positions, groups."""
    shape = op.inputs[x]
    groups = op.args[sizes_at + 3]
    build = RuleBuilder()
    n = build.axis("n", shape[0], reduce="sum" if backward else None)
    g = build.axis("g", groups)
    channels = (*g, *build.axis("c", shape[1] // groups, frozen=True))
    positions = build.dims("p", shape[2:], frozen=True)

    def operand(other: tuple[int, ...]) -> Dims:
        if len(other) == 1:
            return (channels,)
        return (n, channels, *positions) if other == shape else (n, g)

    def local(call: Call, part: Local) -> Call:
        batch, count = part.input_shape(x)[:2]
        new = {sizes_at: batch, sizes_at + 1: count, sizes_at + 3: part.size("g")}
        return with_args(call, new)

    is_same = shape == (shape[0], groups)  # statistics look like x: take them by position
    inputs = [(n, channels) if is_same and len(i) == 2 else operand(i) for i in op.inputs]
    outputs = [(n, channels) if is_same and len(o) == 2 else operand(o) for o in op.outputs]
    linear = LINEAR_IN_FIRST if backward else ()
    return build.rule(inputs, outputs, linear=linear, local=local)


@rule(
    "aten.native_batch_norm.default",
    "aten._native_batch_norm_legit.default",
    "aten._native_batch_norm_legit_functional.default",
    "aten._native_batch_norm_legit_no_training.default",
    "aten.native_batch_norm_backward.default",
    "aten.cudnn_batch_norm.default",
    "aten._batch_norm_with_update_functional.default",
    "aten._batch_norm_no_update.default",
)
def batch_norm(op: Operands) -> Rule:
    """Channels are independent; their statistics couple everything else."""
    build = RuleBuilder()
    shape = max((*op.inputs, *op.outputs), key=len)
    c = build.axis("c", shape[1])
    dims = tuple(c if d == 1 else build.axis(f"d{d}", n, frozen=True) for d, n in enumerate(shape))

    def operand(other: tuple[int, ...], k: str) -> Dims:
        if other == shape:
            return dims
        return (c,) if other == (shape[1],) else build.dims(k, other, frozen=True)

    inputs = [operand(s, f"i{i}_") for i, s in enumerate(op.inputs)]
    return build.rule(inputs, [operand(s, f"o{k}_") for k, s in enumerate(op.outputs)])


@rule("aten._weight_norm_interface.default", "aten._weight_norm_interface_backward.default")
def weight_norm(op: Operands) -> Rule:
    """g * v / |v|, the norm over all dims but one: that dim is parallel."""
    is_backward = "backward" in op.target
    dim = op.args[-1] if is_backward else argument(op, 2, "dim", 0)
    shape = op.inputs[0]
    build = RuleBuilder()
    dims = tuple(build.axis(f"d{d}", n, frozen=d != dim) for d, n in enumerate(shape))
    norm = tuple(names if d == dim else () for d, names in enumerate(dims))
    operands = [dims if s == shape else norm for s in (*op.inputs, *op.outputs)]
    count = len(op.inputs)
    linear = LINEAR_IN_FIRST if is_backward else ()
    return build.rule(operands[:count], operands[count:], linear=linear)

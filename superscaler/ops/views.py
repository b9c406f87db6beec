"""Rules of operators that only rearrange dims: views, permutations, broadcasts, copies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from superscaler.graph.rule import Call, Local, Operands, Rule, RuleFunction
from superscaler.ops.build import LINEAR_IN_FIRST, RuleBuilder, argument, local_sizes
from superscaler.ops.factor import common_factors
from superscaler.ops.registry import frozen_rule, rule


def _reshape(call: Call, part: Local) -> Call:
    """A part may lie in memory in another order than the whole, so views become reshapes."""
    return Call("aten.reshape.default", (call.args[0], list(part.output_shape(0))), {})


@rule(
    "aten.view.default",
    "aten._unsafe_view.default",
    "aten.reshape.default",
    "aten._reshape_alias.default",
    "aten.view_copy.default",
    "aten._reshape_copy.default",
    "aten.flatten.using_ints",
    "aten.unflatten.int",
    "aten.ravel.default",
    "aten.squeeze.default",
    "aten.squeeze.dim",
    "aten.squeeze.dims",
    "aten.squeeze_copy.default",
    "aten.squeeze_copy.dim",
    "aten.squeeze_copy.dims",
)
def reshape(op: Operands) -> Rule:
    """The factors both shapes share; dims that cross are frozen."""
    build = RuleBuilder()
    inside, outside = common_factors(build, op.inputs[0], op.outputs[0])
    return build.rule((inside,), (outside,), linear=LINEAR_IN_FIRST, local=_reshape, is_view=True)


@rule("aten.unsqueeze.default", "aten.unsqueeze_copy.default")
def unsqueeze(op: Operands) -> Rule:
    build = RuleBuilder()
    dims = build.dims("d", op.inputs[0])
    at = argument(op, 1, "dim") % (len(dims) + 1)
    outside = (*dims[:at], (), *dims[at:])
    return build.rule((dims,), (outside,), linear=LINEAR_IN_FIRST, is_view=True)


@rule(
    "aten.alias.default",
    "aten.alias_copy.default",
    "aten.detach.default",
    "aten.detach_copy.default",
    "aten.lift_fresh.default",
    "aten.lift_fresh_copy.default",
    "aten.view_as.default",
    "aten.positive.default",
    "aten.conj.default",
    "aten._conj.default",
    "aten.resolve_conj.default",
    "aten.resolve_neg.default",
)
def same(op: Operands) -> Rule:
    """The tensor itself."""
    build = RuleBuilder()
    dims = build.dims("d", op.outputs[0])
    return build.rule((dims,), (dims,), linear=LINEAR_IN_FIRST, is_view=True)


@rule("aten.clone.default", "aten.contiguous.default", "aten._conj_physical.default")
def copy(op: Operands) -> Rule:
    """A new tensor of the same values."""
    build = RuleBuilder()
    dims = build.dims("d", op.outputs[0])
    return build.rule((dims,), (dims,), linear=LINEAR_IN_FIRST)


Order = Callable[[Operands], Sequence[int]]


def _permuted(order: Order) -> RuleFunction:
    def function(op: Operands) -> Rule:
        build = RuleBuilder()
        dims = build.dims("d", op.inputs[0])
        outside = tuple(dims[d] for d in order(op))
        return build.rule((dims,), (outside,), linear=LINEAR_IN_FIRST, is_view=True)

    return function


def _swap(op: Operands) -> list[int]:
    order = list(range(len(op.inputs[0])))
    if order:
        a, b = argument(op, 1, "dim0") % len(order), argument(op, 2, "dim1") % len(order)
        order[a], order[b] = order[b], order[a]
    return order


def _permute(op: Operands) -> list[int]:
    return [d % len(op.inputs[0]) for d in argument(op, 1, "dims")]


def _reverse(op: Operands) -> range:
    return range(len(op.inputs[0]))[::-1]


rule("aten.permute.default", "aten.permute_copy.default")(_permuted(_permute))
rule("aten.transpose.int", "aten.transpose_copy.int")(_permuted(_swap))
rule("aten.t.default", "aten.t_copy.default", "aten.numpy_T.default")(_permuted(_reverse))


@rule("aten.expand.default", "aten.expand_copy.default", "aten.broadcast_to.default")
def expand(op: Operands) -> Rule:
    """New and widened dims are axes of the output alone: every part expands to its own size."""
    build = RuleBuilder()
    outside = build.dims("d", op.outputs[0])
    shape = op.inputs[0]
    added = len(outside) - len(shape)
    inside = tuple(
        outside[added + d] if n == op.outputs[0][added + d] else () for d, n in enumerate(shape)
    )
    return build.rule(
        (inside,), (outside,), linear=LINEAR_IN_FIRST, local=local_sizes(1), is_view=True
    )


@rule("aten.view.dtype")
def view_dtype(op: Operands) -> Rule:
    """The bits read as another dtype; the last dim is frozen when its size changes."""
    if not op.inputs[0] or op.inputs[0] == op.outputs[0]:
        build = RuleBuilder()
        dims = build.dims("d", op.outputs[0])
        return build.rule((dims,), (dims,), is_view=True)
    return _last_dim_apart(op, linear=False)


@rule("aten.view_as_complex.default", "aten.view_as_real.default")
def complex_view(op: Operands) -> Rule:
    """Real and imaginary parts are a last dim of two."""
    build = RuleBuilder()
    wide, flat = sorted((op.inputs[0], op.outputs[0]), key=len, reverse=True)
    dims = build.dims("d", flat)
    pair = (*dims, build.axis("pair", wide[-1], frozen=True))
    inside, outside = (pair, dims) if len(op.inputs[0]) > len(op.outputs[0]) else (dims, pair)
    return build.rule((inside,), (outside,), linear=LINEAR_IN_FIRST, is_view=True)


def _last_dim_apart(op: Operands, linear: bool) -> Rule:
    build = RuleBuilder()
    shape, out = op.inputs[0], op.outputs[0]
    if shape[:-1] != out[:-1]:
        return frozen_rule(op)
    dims = build.dims("d", shape[:-1])
    inside = (*dims, build.axis("in", shape[-1], frozen=True))
    outside = (*dims, build.axis("out", out[-1], frozen=True))
    return build.rule((inside,), (outside,), linear=LINEAR_IN_FIRST if linear else (), is_view=True)


@rule("aten.diagonal.default", "aten.diagonal_copy.default")
def diagonal(op: Operands) -> Rule:
    """The two dims are frozen, the diagonal is a last dim of its own."""
    build = RuleBuilder()
    shape = op.inputs[0]
    first = argument(op, 2, "dim1", 0) % len(shape)
    second = argument(op, 3, "dim2", 1) % len(shape)
    dims = build.dims("d", shape)
    build.freeze(n for d in (first, second) for n in dims[d])
    kept = [dim for d, dim in enumerate(dims) if d not in (first, second)]
    outside = (*kept, build.axis("diagonal", op.outputs[0][-1], frozen=True))
    return build.rule((dims,), (outside,), linear=LINEAR_IN_FIRST, is_view=True)


@rule("aten.diagonal_backward.default")
def diagonal_backward(op: Operands) -> Rule:
    """The gradient of a diagonal in a tensor of zeros."""
    args = (op.args[0], *op.args[2:])
    forward = Operands("aten.diagonal.default", args, {}, op.outputs, op.inputs)
    found = diagonal(forward)
    return replace(
        found, inputs=found.outputs, outputs=found.inputs, local=local_sizes(1), is_view=False
    )

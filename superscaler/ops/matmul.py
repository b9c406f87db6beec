"""Rules of matrix products: the contracted dim is a sum."""

from __future__ import annotations

from superscaler.ops.build import RuleBuilder, argument
from superscaler.ops.registry import RULES, annotated, rule
from superscaler.ops.rule import Dims, Operands, Rule

IN_EACH = (frozenset({0}), frozenset({1}))


@rule("aten.mm.default")
def mm(op: Operands) -> Rule:
    build = RuleBuilder()
    (rows, inner), (_, columns) = op.inputs
    m, n = build.axis("m", rows), build.axis("n", columns)
    k = build.axis("k", inner, reduce="sum")
    return build.rule(((m, k), (k, n)), ((m, n),), linear=IN_EACH)


@rule("aten.bmm.default")
def bmm(op: Operands) -> Rule:
    build = RuleBuilder()
    (batch, rows, inner), (_, _, columns) = op.inputs
    b, m, n = build.axis("b", batch), build.axis("m", rows), build.axis("n", columns)
    k = build.axis("k", inner, reduce="sum")
    return build.rule(((b, m, k), (b, k, n)), ((b, m, n),), linear=IN_EACH)


RULES["aten.dot.default"] = annotated("k+, k+ ->", linear=IN_EACH)
RULES["aten.vdot.default"] = annotated("k+, k+ ->", linear=IN_EACH)
RULES["aten.mv.default"] = annotated("m k+, k -> m", linear=IN_EACH)
RULES["aten.outer.default"] = annotated("m, n -> m n", linear=IN_EACH)


@rule("aten.addmm.default", "aten.baddbmm.default", "aten.addmv.default")
def add_product(op: Operands) -> Rule:
    """bias + a @ b: the contracted dim is frozen, or every part would add the bias."""
    build = RuleBuilder()
    out = build.dims("d", op.outputs[0])
    bias, left, right = op.inputs
    k = build.axis("k", left[-1], frozen=True)
    row = left[:-1]
    a: Dims = (*out[: len(row)], k)
    b: Dims = (k,) if len(right) == 1 else (*out[: len(right) - 2], k, out[-1])
    added = len(out) - len(bias)
    c = tuple(() if n == 1 else out[added + d] for d, n in enumerate(bias))
    linear = (frozenset({0, 1}), frozenset({0, 2}))
    return build.rule((c, a, b), (out,), linear=linear)


@rule("aten.linear.default")
def linear(op: Operands) -> Rule:
    """x @ weight.T + bias: the contracted dim is frozen with a bias, a sum without."""
    build = RuleBuilder()
    out = build.dims("d", op.outputs[0])
    has_bias = len(op.inputs) > 2
    k = build.axis("k", op.inputs[0][-1], reduce=None if has_bias else "sum", frozen=has_bias)
    inputs: list[Dims] = [(*out[:-1], k), (out[-1], k)]
    if has_bias:
        return build.rule([*inputs, (out[-1],)], (out,), linear=(frozenset({0, 2}),))
    return build.rule(inputs, (out,), linear=IN_EACH)


@rule("aten._grouped_mm.default")
def grouped_mm(op: Operands) -> Rule:
    """Products by group, the groups given by the ends of their rows or columns.

    Rows x weights: `m k+, g k n, g -> m n` with groups of rows. Two matrices: groups of the
    contracted dim, `m k, k n, g -> g m n`. The grouped dim and the groups are frozen.
    """
    build = RuleBuilder()
    left, right, out = op.inputs[0], op.inputs[1], op.outputs[0]
    m = build.axis("m", left[-2])
    n = build.axis("n", right[-1])
    has_offsets = argument(op, 2, "offs") is not None
    g = build.axis("g", max(op.inputs[2][0] if has_offsets else out[0], 1), frozen=has_offsets)
    grouped_inner = len(left) == len(right) == 2
    k = build.axis("k", left[-1], reduce="sum", frozen=grouped_inner)
    if has_offsets and not grouped_inner:
        build.freeze(m if len(left) == 2 else n)
    a: Dims = (m, k) if len(left) == 2 else (g, m, k)
    b: Dims = (k, n) if len(right) == 2 else (g, k, n)
    product: Dims = (m, n) if len(out) == 2 else (g, m, n)
    inputs = [a, b, (g,)] if has_offsets else [a, b]
    if len(op.inputs) > len(inputs):  # a bias
        build.freeze(k)
        return build.rule([*inputs, (g, n)], (product,), linear=())
    return build.rule(inputs, (product,), linear=IN_EACH)

"""Rules of matrix products: the contracted dim is a sum."""

from __future__ import annotations

from superscaler.graph.rule import Call, Dims, Local, Operands, Rule
from superscaler.ops.build import RuleBuilder
from superscaler.ops.registry import RULES, annotated, frozen_rule, rule

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


@rule("aten._trilinear.default")
def trilinear(op: Operands) -> Rule:
    """The product of three tensors, each with dims of one put in, summed over some dims.

    `nn.Bilinear` and its gradients, as "b i, o i j, b j -> b o" say.
    """
    summed = {d % (len(op.inputs[0]) + len(op.args[3])) for d in op.args[6]}
    build = RuleBuilder()

    def operand(shape: tuple[int, ...], expanded: list[int]) -> Dims:
        places = [d for d in range(len(shape) + len(expanded)) if d not in expanded]
        return tuple(
            build.axis(f"d{d}", n, reduce="sum" if d in summed else None)
            for d, n in zip(places, shape)
        )

    inputs = [operand(shape, expanded) for shape, expanded in zip(op.inputs, op.args[3:6])]
    out = operand(op.outputs[0], sorted(summed))
    return build.rule(inputs, (out,), linear=(frozenset({0}), frozenset({1}), frozenset({2})))


@rule("superscaler.grouped_mm.default", "aten._grouped_mm.default")
def grouped_mm(op: Operands) -> Rule:
    """Rows by group times the group's matrix, or products over a dim that is grouped.

    `m@ k+, g@+ k n, ends^ -> m n` or `m k@+, k n, ends^ -> g@ m n`: a part knows which groups it
    has, and which elements of the grouped dim.
    """
    if list(map(len, op.inputs)) not in ([2, 3, 1], [2, 2, 1]):
        return frozen_rule(op)
    left, right = op.inputs[:2]
    is_inner = len(right) == 2
    num_groups = op.outputs[0][0] if is_inner else right[0]
    build = RuleBuilder()
    m = build.axis("m", left[0], indexed=not is_inner)
    k = build.axis("k", left[1], reduce="sum", indexed=is_inner)
    n = build.axis("n", right[-1])
    g = build.axis("g", num_groups, reduce=None if is_inner else "sum", indexed=True)
    ends = build.axis("ends", op.inputs[2][0], frozen=True)

    def local(call: Call, part: Local) -> Call:
        grouped = "k" if is_inner else "m"
        if not part.is_split("g") and not part.is_split(grouped):
            return call
        args = (*call.args[:3], part.start("g"), part.size("g"), part.start(grouped))
        return Call("superscaler.grouped_mm_part.default", args, {})

    b: Dims = (k, n) if is_inner else (g, k, n)
    out: Dims = (g, m, n) if is_inner else (m, n)
    return build.rule(((m, k), b, (ends,)), (out,), linear=IN_EACH, local=local)

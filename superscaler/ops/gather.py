"""Rules of gather and scatter: the indexed dim can be split, parts leave out what is not theirs."""

from __future__ import annotations

from superscaler.graph.operator import Ref
from superscaler.graph.rule import Call, Dims, Local, Operands, Rule
from superscaler.ops.build import LINEAR_IN_FIRST, RuleBuilder, argument
from superscaler.ops.registry import frozen_rule, rule

INDEXED = "v"  # the axis that is indexed into
ELEMENTS = "k"  # the axis of the indices along that dim


def _operands(
    build: RuleBuilder, shape: tuple[int, ...], index: tuple[int, ...], dim: int
) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]]:
    """Dims of the indexed tensor and of the index but for `dim`; frozen where sizes differ."""
    ours: list[tuple[str, ...]] = []
    theirs: list[tuple[str, ...]] = []
    for d, (n, m) in enumerate(zip(shape, index)):
        if d == dim:
            ours.append(())
            theirs.append(())
        elif n == m:
            ours.append(build.axis(f"d{d}", n))
            theirs.append(ours[d])
        else:
            ours.append(build.axis(f"x{d}", n, frozen=True))
            theirs.append(build.axis(f"i{d}", m, frozen=True))
    return ours, theirs


@rule("aten.gather.default")
def gather(op: Operands) -> Rule:
    """out[i][j] = x[index[i][j]][j]: a part with some of x's rows gives zeros for the others."""
    shape, index = op.inputs
    if not shape or not index:
        return frozen_rule(op)
    dim = op.args[1] % len(shape)
    build = RuleBuilder()
    ours, theirs = _operands(build, shape, index, dim)
    ours[dim] = build.axis(INDEXED, shape[dim], reduce="sum", indexed=True)
    theirs[dim] = build.axis(ELEMENTS, index[dim])

    def local(call: Call, part: Local) -> Call:
        if not part.is_split(INDEXED):
            return call
        args = (call.args[0], dim, call.args[2], part.start(INDEXED))
        return Call("superscaler.gather_part.default", args, {})

    dims: Dims = tuple(theirs)
    return build.rule((tuple(ours), dims), (dims,), linear=LINEAR_IN_FIRST, local=local)


@rule("aten.scatter.src", "aten.scatter.value", "aten.scatter.reduce", "aten.scatter.value_reduce")
def scatter(op: Operands) -> Rule:
    """x with some elements replaced, in the order of the index: its elements are frozen."""
    if len(op.args) > 4 or "reduce" in op.kwargs or not op.inputs[0] or not op.inputs[1]:
        return frozen_rule(op)
    value = op.args[3]
    found = _scatter(op, is_sum=False)
    linear = (frozenset({0, 2}),) if isinstance(value, Ref) else ()
    if not isinstance(value, Ref) and value == 0:
        linear = LINEAR_IN_FIRST
    return Rule(found.inputs, found.outputs, found.axes, linear, found.local)


@rule("aten.scatter_add.default")
def scatter_add(op: Operands) -> Rule:
    """x with elements added: the first part alone counts x."""
    if not op.inputs[0] or not op.inputs[1]:
        return frozen_rule(op)
    return _scatter(op, is_sum=True)


def _scatter(op: Operands, is_sum: bool) -> Rule:
    shape, index = op.inputs[:2]
    dim = op.args[1] % len(shape)
    build = RuleBuilder()
    ours, theirs = _operands(build, shape, index, dim)
    ours[dim] = build.axis(INDEXED, shape[dim], indexed=True)
    theirs[dim] = build.axis(
        ELEMENTS,
        index[dim],
        reduce="sum" if is_sum else None,
        indexed=is_sum,
        frozen=not is_sum,
    )
    inputs: list[Dims] = [tuple(ours), tuple(theirs)]
    if len(op.inputs) > 2:
        inputs.append(_source(build, op.inputs[2], index, theirs))

    def local(call: Call, part: Local) -> Call:
        is_split = part.is_split(INDEXED)
        if is_sum and (is_split or part.is_split(ELEMENTS)):
            first = part.start(ELEMENTS)
            args = (call.args[0], dim, *call.args[2:4], part.start(INDEXED), first)
            return Call("superscaler.scatter_add_part.default", args, {})
        if not is_split:
            return call
        overload = "src" if len(op.inputs) > 2 else "value"
        args = (call.args[0], dim, *call.args[2:4], part.start(INDEXED))
        return Call(f"superscaler.scatter_part.{overload}", args, {})

    return build.rule(inputs, inputs[:1], linear=(frozenset({0, 2}),), local=local)


def _source(
    build: RuleBuilder, shape: tuple[int, ...], index: tuple[int, ...], dims: list[tuple[str, ...]]
) -> Dims:
    """Dims of a scattered tensor, which may be larger than its index: then both are frozen."""
    found = []
    for d, (n, m, names) in enumerate(zip(shape, index, dims)):
        if n != m:
            build.freeze(names)
        found.append(names if n == m else build.axis(f"s{d}", n, frozen=True))
    return tuple(found)


@rule("aten.index_add.default")
def index_add(op: Operands) -> Rule:
    """x with rows added: the rows added are frozen, and so are x's along that dim."""
    shape, index, source = op.inputs
    dim = op.args[1] % max(len(shape), 1)
    if not shape or not index:
        return frozen_rule(op)
    build = RuleBuilder()
    rest = [() if d == dim else build.axis(f"d{d}", n) for d, n in enumerate(shape)]
    ours = (*rest[:dim], build.axis(INDEXED, shape[dim], indexed=True), *rest[dim + 1 :])
    added = build.axis(ELEMENTS, source[dim], reduce="sum", indexed=True)
    alpha = argument(op, 4, "alpha", 1)
    if alpha != 1:
        build.freeze((*ours[dim], *added))

    def local(call: Call, part: Local) -> Call:
        if not part.is_split(INDEXED) and not part.is_split(ELEMENTS):
            return call
        args = (call.args[0], dim, *call.args[2:4], part.start(INDEXED), part.start(ELEMENTS))
        return Call("superscaler.index_add_part.default", args, {})

    theirs = (*rest[:dim], added, *rest[dim + 1 :])
    return build.rule((ours, (added,), theirs), (ours,), linear=(frozenset({0, 2}),), local=local)


@rule("aten.scatter_reduce.two", "aten.index_reduce.default", "aten.masked_scatter.default")
def combined(op: Operands) -> Rule:
    """Frozen along the indexed dim; parallel elsewhere where all sizes agree."""
    if op.target == "aten.masked_scatter.default" or len(set(map(len, op.inputs))) > 1:
        return frozen_rule(op)
    dim = op.args[1] % max(len(op.inputs[0]), 1)
    shape = op.inputs[0]
    build = RuleBuilder()
    others = [d for d in range(len(shape)) if d != dim]
    is_same = all(given[d] == shape[d] for given in op.inputs for d in others)
    if not is_same:
        return frozen_rule(op)
    operands = [
        tuple(
            build.axis(f"d{d}" if d != dim else f"d{d}_{n}", n, frozen=d == dim)
            for d, n in enumerate(given)
        )
        for given in (*op.inputs, *op.outputs)
    ]
    return build.rule(operands[:-1], operands[-1:])

"""Rules of operators that cut tensors along a dim, or put pieces together along one.

A piece that is one of several equal chunks keeps an axis of its own: the dim is the product
(chunks, chunk), and splitting the chunk splits every piece alike. Other pieces freeze the dim.
"""

from __future__ import annotations

from superscaler.graph.rule import Call, Dims, Local, LocalFunction, Operands, Rule
from superscaler.ops.build import LINEAR_IN_FIRST, RuleBuilder, argument, with_args
from superscaler.ops.factor import Chunk, chunk_of
from superscaler.ops.registry import frozen_rule, rule

INNER = "k"  # the axis of the elements within a chunk


def _replaced(dims: Dims, dim: int, names: tuple[str, ...]) -> Dims:
    return (*dims[:dim], names, *dims[dim + 1 :])


def _without(dims: Dims, dim: int) -> Dims:
    return (*dims[:dim], *dims[dim + 1 :])


def _rest(build: RuleBuilder, shape: tuple[int, ...], dim: int) -> Dims:
    """An axis per dim, but none for `dim`."""
    return tuple(() if d == dim else build.axis(f"d{d}", n) for d, n in enumerate(shape))


def _bounds(op: Operands | Call, at: int, size: int) -> tuple[int, int, int]:
    """Start, end and step of a slice whose start is argument number `at`, as within the dim."""
    start, end = argument(op, at, "start") or 0, argument(op, at + 1, "end")
    end = size if end is None else end
    start, end = (max(0, n + size) if n < 0 else min(n, size) for n in (start, end))
    return start, max(start, end), argument(op, at + 2, "step", 1)


def _slice_factors(
    build: RuleBuilder, size: int, start: int, length: int, step: int
) -> tuple[tuple[str, ...], tuple[str, ...], Chunk | None]:
    """The factors of a dim of `size` and of the slice of `length` of it."""
    chunk = chunk_of(size, start, length, step)
    if chunk is None:
        whole = build.axis("whole", size, frozen=True)
        return whole, build.axis("piece", length, frozen=True), None
    piece = build.axis(INNER, length)
    count = build.axis("chunk", chunk.count, frozen=True)
    return (*count, *piece, *build.axis("step", step, frozen=True)), piece, chunk


def _localised(
    chunk: Chunk | None, dim: int, start_at: int, sizes_at: int | None = None
) -> LocalFunction | None:
    """Sets the slice's bounds (its start is argument `start_at`) and sizes to the part's."""
    if chunk is None and sizes_at is None:
        return None

    def local(call: Call, part: Local) -> Call:
        args = call.args
        if chunk is not None:
            start, end = chunk.bounds(part.size(INNER))
            args = (*args[: start_at - 1], dim, start, end, chunk.step)
        if sizes_at is not None:
            args = (*args[:sizes_at], list(part.output_shape(0)), *args[sizes_at + 1 :])
        return Call(call.target, args, {})

    return local


@rule("aten.slice.Tensor", "aten.slice_copy.Tensor")
def slice_(op: Operands) -> Rule:
    shape = op.inputs[0]
    dim = argument(op, 1, "dim", 0) % len(shape)
    build = RuleBuilder()
    start, _, step = _bounds(op, 2, shape[dim])
    rest = _rest(build, shape, dim)
    whole, piece, chunk = _slice_factors(build, shape[dim], start, op.outputs[0][dim], step)
    return build.rule(
        (_replaced(rest, dim, whole),),
        (_replaced(rest, dim, piece),),
        linear=LINEAR_IN_FIRST,
        local=_localised(chunk, dim, 2),
        is_view=True,
    )


@rule("aten.slice_backward.default")
def slice_backward(op: Operands) -> Rule:
    """The gradient of a slice in a tensor of zeros."""
    shape = op.outputs[0]
    dim = op.args[2] % len(shape)
    build = RuleBuilder()
    start, _, step = _bounds(op, 3, shape[dim])
    rest = _rest(build, shape, dim)
    whole, piece, chunk = _slice_factors(build, shape[dim], start, op.inputs[0][dim], step)
    return build.rule(
        (_replaced(rest, dim, piece),),
        (_replaced(rest, dim, whole),),
        linear=LINEAR_IN_FIRST,
        local=_localised(chunk, dim, 3, sizes_at=1),
    )


@rule("aten.slice_scatter.default")
def slice_scatter(op: Operands) -> Rule:
    """A tensor with one slice replaced by another tensor."""
    shape = op.outputs[0]
    dim = argument(op, 2, "dim", 0) % len(shape)
    build = RuleBuilder()
    start, _, step = _bounds(op, 3, shape[dim])
    rest = _rest(build, shape, dim)
    whole, piece, chunk = _slice_factors(build, shape[dim], start, op.inputs[1][dim], step)
    outside = _replaced(rest, dim, whole)
    return build.rule(
        (outside, _replaced(rest, dim, piece)),
        (outside,),
        linear=(frozenset({0, 1}),),
        local=_localised(chunk, dim, 3),
    )


@rule("aten.narrow.default", "aten.narrow_copy.default")
def narrow(op: Operands) -> Rule:
    """A slice given by its start and length."""
    shape = op.inputs[0]
    dim, start = op.args[1] % len(shape), op.args[2]
    start += shape[dim] if start < 0 else 0
    length = op.outputs[0][dim]
    as_slice = Operands(
        "aten.slice.Tensor", (op.args[0], dim, start, start + length), {}, op.inputs, op.outputs
    )
    found = slice_(as_slice)
    move = found.local

    def local(call: Call, part: Local) -> Call:
        cut = Call("aten.slice.Tensor", as_slice.args, {})
        return move(cut, part) if move else cut

    return Rule(found.inputs, found.outputs, found.axes, found.linear, local, is_view=True)


@rule("aten.select.int", "aten.select_copy.int")
def select(op: Operands) -> Rule:
    build = RuleBuilder()
    dims = build.dims("d", op.inputs[0])
    dim = op.args[1] % len(dims)
    build.freeze(dims[dim])
    return build.rule((dims,), (_without(dims, dim),), linear=LINEAR_IN_FIRST, is_view=True)


@rule("aten.select_backward.default")
def select_backward(op: Operands) -> Rule:
    """The gradient of a row in a tensor of zeros."""
    build = RuleBuilder()
    dims = build.dims("d", op.outputs[0])
    dim = op.args[2] % len(dims)
    build.freeze(dims[dim])

    def local(call: Call, part: Local) -> Call:
        return with_args(call, {1: list(part.output_shape(0))})

    return build.rule((_without(dims, dim),), (dims,), linear=LINEAR_IN_FIRST, local=local)


@rule("aten.select_scatter.default")
def select_scatter(op: Operands) -> Rule:
    """A tensor with one row replaced."""
    build = RuleBuilder()
    dims = build.dims("d", op.outputs[0])
    dim = op.args[2] % len(dims)
    build.freeze(dims[dim])
    return build.rule((dims, _without(dims, dim)), (dims,), linear=(frozenset({0, 1}),))


@rule("aten.unbind.int", "aten.unbind_copy.int")
def unbind(op: Operands) -> Rule:
    build = RuleBuilder()
    dims = build.dims("d", op.inputs[0])
    dim = argument(op, 1, "dim", 0) % len(dims)
    build.freeze(dims[dim])
    outside = [_without(dims, dim)] * len(op.outputs)
    return build.rule((dims,), outside, linear=LINEAR_IN_FIRST, is_view=True)


@rule("aten.stack.default")
def stack(op: Operands) -> Rule:
    build = RuleBuilder()
    dims = build.dims("d", op.outputs[0])
    dim = argument(op, 1, "dim", 0) % len(dims)
    build.freeze(dims[dim])
    count = len(op.inputs)
    return build.rule([_without(dims, dim)] * count, (dims,), linear=(frozenset(range(count)),))


@rule(
    "aten.split.Tensor",
    "aten.split.sizes",
    "aten.split_copy.Tensor",
    "aten.split_with_sizes.default",
    "aten.split_with_sizes_copy.default",
    "aten.chunk.default",
    "aten.tensor_split.sections",
    "aten.unsafe_split.Tensor",
    "aten.unsafe_split_with_sizes.default",
    "aten.unsafe_chunk.default",
)
def split(op: Operands) -> Rule:
    """Equal pieces share the axis of their elements; unequal ones freeze the dim."""
    shape = op.inputs[0]
    dim = argument(op, 2, "dim", 0) % len(shape)
    build = RuleBuilder()
    rest = _rest(build, shape, dim)
    sizes = [out[dim] for out in op.outputs]
    whole, pieces = _pieces(build, shape[dim], sizes)

    def local(call: Call, part: Local) -> Call:
        lengths = [part.output_shape(k)[dim] for k in range(len(sizes))]
        return Call("aten.split_with_sizes.default", (call.args[0], lengths, dim), {})

    return build.rule(
        (_replaced(rest, dim, whole),),
        [_replaced(rest, dim, piece) for piece in pieces],
        linear=LINEAR_IN_FIRST,
        local=local,
        is_view=True,
    )


@rule("aten.cat.default", "aten.concat.default")
def cat(op: Operands) -> Rule:
    """Equal pieces share the axis of their elements; unequal ones freeze the dim."""
    shape = op.outputs[0]
    if any(len(given) != len(shape) for given in op.inputs):  # an empty piece of any shape
        return frozen_rule(op)
    dim = argument(op, 1, "dim", 0) % len(shape)
    build = RuleBuilder()
    rest = _rest(build, shape, dim)
    whole, pieces = _pieces(build, shape[dim], [given[dim] for given in op.inputs])
    return build.rule(
        [_replaced(rest, dim, piece) for piece in pieces],
        (_replaced(rest, dim, whole),),
        linear=(frozenset(range(len(op.inputs))),),
    )


def _pieces(
    build: RuleBuilder, size: int, sizes: list[int]
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The factors of a dim and of its consecutive pieces."""
    if len(set(sizes)) == 1 and sum(sizes) == size:
        piece = build.axis(INNER, sizes[0])
        return (*build.axis("piece", len(sizes), frozen=True), *piece), [piece] * len(sizes)
    whole = build.axis("whole", size, frozen=True)
    return whole, [build.axis(f"piece{i}", n, frozen=True) for i, n in enumerate(sizes)]

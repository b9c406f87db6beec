"""Rules of indexing with tensors: x[i, :, j], and adding or putting values at such places."""

from __future__ import annotations

from superscaler.graph.operator import Ref
from superscaler.graph.rule import Call, Dims, Local, Operands, Rule
from superscaler.ops.build import LINEAR_IN_FIRST, RuleBuilder, any_split, argument
from superscaler.ops.registry import frozen_rule, rule


class _Places:
    """How an index list selects places of a tensor.

    `result` are the dims of x[indices], `x` those of the tensor, `indices` those of the index
    tensors. Indexed dims of x have axes "v0", ...; the broadcast index has axes "k0", ...
    """

    def __init__(
        self,
        op: Operands,
        shape: tuple[int, ...],
        result: tuple[int, ...],
        *,
        reduce_x: str | None = None,
        reduce_k: str | None = None,
        is_indexed: bool = True,
    ) -> None:
        given = list(op.args[1])
        given += [None] * (len(shape) - len(given))
        indexed = [d for d, ref in enumerate(given) if isinstance(ref, Ref)]
        shapes = [op.shape(given[d]) for d in indexed]
        width = max(map(len, shapes))
        start = indexed[0] if indexed == list(range(indexed[0], indexed[-1] + 1)) else 0
        build = self.build = RuleBuilder()
        self.sizes = [shape[d] if d in indexed else -1 for d in range(len(shape))]
        self.index_at = indexed
        self.x: Dims = tuple(
            build.axis(f"v{d}", n, reduce=reduce_x, indexed=is_indexed, frozen=not is_indexed)
            if d in indexed
            else build.axis(f"d{d}", n)
            for d, n in enumerate(shape)
        )
        chosen: Dims = tuple(
            build.axis(f"k{j}", n, reduce=reduce_k, indexed=reduce_k is not None)
            for j, n in enumerate(result[start : start + width])
        )
        self.chosen = chosen
        rest = [names for d, names in enumerate(self.x) if d not in indexed]
        self.result: Dims = (*rest[:start], *chosen, *rest[start:])
        self.indices = [
            tuple(() if n == 1 else chosen[width - len(s) + j] for j, n in enumerate(s))
            for s in shapes
        ]

    @property
    def splittable(self) -> list[str]:
        """The axes whose splits need the part's own form of the call."""
        return [n for names in self.x for n in names if n.startswith("v")]

    def starts(self, part: Local) -> list[object]:
        """Where the part of each indexed dim starts."""
        return [part.start(f"v{d}") if self.x[d] else 0 for d in self.index_at]

    @property
    def counts(self) -> list[int]:
        """The global sizes of the indexed dims: negative indices count from their ends."""
        return [self.sizes[d] for d in self.index_at]


def _is_plain(op: Operands) -> bool:
    """Whether there is an index tensor, and x has dims."""
    return bool(op.inputs[0]) and any(isinstance(i, Ref) for i in op.args[1])


def _may_be_mask(op: Operands) -> bool:
    """Whether an index may be a tensor of truth values, which has the shape of the dims it selects.

    How many places it selects is unknown, so the values are broadcast along them.
    """
    shape, values = op.inputs[0], op.inputs[-1]
    given = list(op.args[1])
    refs = [d for d, ref in enumerate(given) if isinstance(ref, Ref)]
    looks_so = any(shape[d : d + len(s)] == s for d in refs if (s := op.shape(given[d])))
    after = len(shape) - max(refs) - 1
    return looks_so and (len(values) <= after or values[len(values) - after - 1] == 1)


@rule("aten.index.Tensor", "aten._unsafe_index.Tensor")
def index(op: Operands) -> Rule:
    if not _is_plain(op):
        return frozen_rule(op)
    places = _Places(op, op.inputs[0], op.outputs[0], reduce_x="sum")

    def local(call: Call, part: Local) -> Call:
        if not any_split(part, places.splittable):
            return call
        args = (call.args[0], list(call.args[1]), places.starts(part), places.counts)
        return Call("superscaler.index_part.default", args, {})

    inputs = [places.x, *places.indices]
    return places.build.rule(inputs, (places.result,), linear=LINEAR_IN_FIRST, local=local)


@rule("aten.index_put.default", "aten._unsafe_index_put.default")
def index_put(op: Operands) -> Rule:
    """x with values put or added at places.

    Added values give partial sums, in which the first part alone counts x. Values put are frozen
    along the places: later ones win.
    """
    if not _is_plain(op) or _may_be_mask(op):
        return frozen_rule(op)
    is_sum = bool(argument(op, 3, "accumulate", False))
    result = _result_shape(op)
    places = _Places(op, op.inputs[0], result, reduce_k="sum" if is_sum else None)
    if not is_sum:
        places.build.freeze(n for names in places.chosen for n in names)
    values = op.inputs[-1]
    added = len(result) - len(values)
    given = tuple(() if n == 1 else places.result[added + d] for d, n in enumerate(values))
    elements = [n for names in places.chosen for n in names if is_sum]

    def local(call: Call, part: Local) -> Call:
        if not any_split(part, (*places.splittable, *elements)):
            return call
        before = [part.start(name) for name in elements]
        starts, counts = places.starts(part), places.counts
        args = (call.args[0], list(call.args[1]), call.args[2], is_sum, starts, counts, before)
        return Call("superscaler.index_put_part.default", args, {})

    inputs = [places.x, *places.indices, given]
    linear = (frozenset({0, len(op.inputs) - 1}),)
    return places.build.rule(inputs, (places.x,), linear=linear, local=local)


def _result_shape(op: Operands) -> tuple[int, ...]:
    """The shape of x[indices]."""
    shape = op.inputs[0]
    given = list(op.args[1]) + [None] * (len(shape) - len(op.args[1]))
    indexed = [d for d, ref in enumerate(given) if isinstance(ref, Ref)]
    shapes = [op.shape(given[d]) for d in indexed]
    width = max(map(len, shapes))
    chosen = tuple(
        max((s[len(s) - width + j] for s in shapes if len(s) - width + j >= 0), default=1)
        for j in range(width)
    )
    rest = tuple(n for d, n in enumerate(shape) if d not in indexed)
    start = indexed[0] if indexed == list(range(indexed[0], indexed[-1] + 1)) else 0
    return (*rest[:start], *chosen, *rest[start:])


@rule("aten._unsafe_masked_index.default", "aten._unsafe_masked_index_put_accumulate.default")
def masked_index(op: Operands) -> Rule:
    """Indexing under a mask stays whole."""
    return frozen_rule(op)

"""Rules of operators that work along one dim and are independent in the others."""

from __future__ import annotations

from superscaler.graph.rule import Operands, Rule, RuleFunction
from superscaler.ops.build import LINEAR_IN_FIRST, RuleBuilder, argument
from superscaler.ops.registry import RULES, frozen_rule, rule


def along(op: Operands, dims: frozenset[int], linear: tuple[frozenset[int], ...] = ()) -> Rule:
    """All operands alike but for `dims`, which are frozen, and apart where their sizes differ."""
    shape = op.inputs[0]
    build = RuleBuilder()
    known = build.dims("d", shape)
    build.freeze(n for d in dims for n in known[d])
    operands = []
    for k, other in enumerate((*op.inputs, *op.outputs)):
        if len(other) != len(shape):
            return frozen_rule(op)
        found = []
        for d, (n, names) in enumerate(zip(other, known)):
            if n != shape[d] and d not in dims:
                return frozen_rule(op)
            found.append(names if n == shape[d] else build.axis(f"o{k}_{d}", n, frozen=True))
        operands.append(tuple(found))
    count = len(op.inputs)
    return build.rule(operands[:count], operands[count:], linear=linear)


def _along(position: int, default: int, linear: tuple[frozenset[int], ...]) -> RuleFunction:
    def function(op: Operands) -> Rule:
        dim = argument(op, position, "dim", default)
        if not op.inputs[0]:
            return along(op, frozenset(), linear)
        dims = [dim] if isinstance(dim, int) else list(dim or range(len(op.inputs[0])))
        return along(op, frozenset(d % len(op.inputs[0]) for d in dims), linear)

    return function


_LINEAR = (
    "cumsum.default:1 _softmax_backward_data.default:2 _log_softmax_backward_data.default:2 "
    "flip.default:1 _fft_c2c.default:1 _fft_r2c.default:1 _fft_c2r.default:1 "
)
_PLAIN = (
    "_softmax.default:1 _log_softmax.default:1 softmax.int:1 log_softmax.int:1 "
    "_safe_softmax.default:1 cumprod.default:1 logcumsumexp.default:1 cummax.default:1 "
    "cummin.default:1 sort.default:1 argsort.default:1 topk.default:2 kthvalue.default:2"
)

for _names, _linear in ((_LINEAR, LINEAR_IN_FIRST), (_PLAIN, ())):
    for _name in _names.split():
        _target, _, _position = _name.partition(":")
        RULES[f"aten.{_target}"] = _along(int(_position), -1, _linear)


@rule("aten.sort.stable", "aten.argsort.stable")
def sort_stable(op: Operands) -> Rule:
    dim = op.kwargs.get("dim", argument(op, 1, "dim", -1))
    return along(op, frozenset({dim % len(op.inputs[0])} if op.inputs[0] else ()))


@rule("aten.roll.default")
def roll(op: Operands) -> Rule:
    """The rolled dims are frozen; without dims the tensor is rolled as one."""
    count = len(op.inputs[0])
    dims = argument(op, 2, "dims") or range(count)
    return along(op, frozenset(d % count for d in dims), LINEAR_IN_FIRST)


@rule("aten.tril.default", "aten.triu.default")
def triangle(op: Operands) -> Rule:
    count = len(op.inputs[0])
    return along(op, frozenset({count - 2, count - 1}), LINEAR_IN_FIRST)


@rule("aten.searchsorted.Tensor")
def searchsorted(op: Operands) -> Rule:
    """Sequences are frozen; the values looked up are independent."""
    build = RuleBuilder()
    dims = build.dims("d", op.outputs[0])
    sequence = op.inputs[0]
    rows = dims[:-1] if len(sequence) > 1 else ()
    last = build.axis("sequence", sequence[-1], frozen=True)
    return build.rule(((*rows, last), dims), (dims,))


@rule("aten.as_strided.default", "aten.as_strided_copy.default", "aten.as_strided_scatter.default")
def as_strided(op: Operands) -> Rule:
    """Frozen: strides say nothing about the parts of a tensor."""
    return frozen_rule(op)

"""Rules of element-wise operators: broadcast from the right, every dim an axis of its own."""

from __future__ import annotations

from collections.abc import Callable

import torch

from superscaler.graph.operator import Ref
from superscaler.graph.rule import Dims, Operands, Rule, RuleFunction
from superscaler.ops.build import LINEAR_IN_FIRST, RuleBuilder, argument, each, positions
from superscaler.ops.registry import RULES, frozen_rule, rule

Linear = tuple[frozenset[int], ...]


def elementwise(op: Operands, linear: Linear = ()) -> Rule:
    """The rule of an element-wise operator, linear in the sets given."""
    shape = op.outputs[0]
    build = RuleBuilder()
    dims = build.dims("d", shape)
    inputs: list[Dims] = []
    for given in op.inputs:
        if given == shape:
            inputs.append(dims)
            continue
        added = len(shape) - len(given)
        if added < 0 or any(n not in (1, shape[added + d]) for d, n in enumerate(given)):
            return frozen_rule(op)
        inputs.append(tuple(() if n == 1 else dims[added + d] for d, n in enumerate(given)))
    if any(other != shape for other in op.outputs[1:]):
        return frozen_rule(op)
    return build.rule(inputs, [dims] * len(op.outputs), linear=linear)


def _linear(sets: Callable[[Operands], Linear]) -> RuleFunction:
    def function(op: Operands) -> Rule:
        return elementwise(op, sets(op))

    return function


def _first(op: Operands) -> Linear:
    return LINEAR_IN_FIRST if isinstance(op.args[0], Ref) else ()


def _both(op: Operands) -> Linear:
    return positions(op.args[0], op.args[1])


def _either(op: Operands) -> Linear:
    return each(op.args[0], op.args[1])


def _dividend(op: Operands) -> Linear:
    return _first(op) if argument(op, 2, "rounding_mode") is None else ()


def _filled(op: Operands) -> Linear:
    """masked_fill(x, mask, value): linear in x where the value is zero, or partial as well."""
    value = op.args[2]
    if isinstance(value, Ref):
        return positions(op.args[0], value)
    return LINEAR_IN_FIRST if value == 0 else ()


def _branches(op: Operands) -> Linear:
    """where(condition, a, b): linear in both; in one where the other is the number zero."""
    tensors = [a for a in op.args[1:3] if isinstance(a, Ref)]
    numbers = [a for a in op.args[1:3] if not isinstance(a, Ref)]
    return positions(*tensors) if tensors and all(n == 0 for n in numbers) else ()


def _products(op: Operands) -> Linear:
    """addcmul(x, a, b): x + value * a * b."""
    return positions(op.args[0], op.args[1]) + positions(op.args[0], op.args[2])


def _quotients(op: Operands) -> Linear:
    return positions(op.args[0], op.args[1])


def _weighted(op: Operands) -> Linear:
    """lerp(a, b, weight): a + weight * (b - a)."""
    return positions(op.args[0], op.args[1])


def _widening(op: Operands) -> Linear:
    """Casts to single or double precision keep partial sums; narrower ones would round each."""
    wide = (torch.float32, torch.float64, torch.complex64, torch.complex128)
    return LINEAR_IN_FIRST if argument(op, 1, "dtype") in (None, *wide) else ()


def _source(op: Operands) -> Linear:
    return positions(op.args[1])


_FAMILIES: tuple[tuple[Callable[[Operands], Linear], str], ...] = (
    (_both, "add.Tensor sub.Tensor rsub.Tensor subtract.Tensor complex.default"),
    (_either, "mul.Tensor multiply.Tensor"),
    (_first, "neg.default mul.Scalar real.default imag.default native_dropout_backward.default"),
    (_dividend, "div.Tensor div.Scalar div.Tensor_mode div.Scalar_mode true_divide.Tensor"),
    (_filled, "masked_fill.Scalar masked_fill.Tensor"),
    (_branches, "where.self where.ScalarSelf where.ScalarOther where.Scalar"),
    (_products, "addcmul.default"),
    (_quotients, "addcdiv.default"),
    (_weighted, "lerp.Scalar lerp.Tensor"),
    (_widening, "_to_copy.default to.dtype"),
    (_source, "copy.default"),
    (
        _first,
        "gelu_backward.default silu_backward.default tanh_backward.default "
        "sigmoid_backward.default threshold_backward.default hardtanh_backward.default "
        "hardswish_backward.default hardsigmoid_backward.default leaky_relu_backward.default "
        "elu_backward.default softplus_backward.default mish_backward.default "
        "log_sigmoid_backward.default logit_backward.default hardshrink_backward.default "
        "softshrink_backward.default",
    ),
)

for _sets, _names in _FAMILIES:
    for _name in _names.split():
        RULES[f"aten.{_name}"] = _linear(_sets)


@rule(
    "aten.hardswish.default",
    "aten.log_sigmoid_forward.default",
    "aten.floor_divide.default",
    "aten.floor_divide.Scalar",
    "aten.bitwise_not.default",
    "aten.nan_to_num.default",
    "aten.polar.default",
    "aten.isin.Scalar_Tensor",
    "aten.prelu.default",
    "aten._prelu_kernel.default",
    "aten._prelu_kernel_backward.default",
    "aten.isclose.default",
)
def plain(op: Operands) -> Rule:
    """Element-wise, and linear in nothing."""
    return elementwise(op)


@rule("aten.isin.Tensor_Tensor")
def isin(op: Operands) -> Rule:
    """Every element against all of the second tensor's."""
    build = RuleBuilder()
    dims = build.dims("d", op.inputs[0])
    tested = build.dims("t", op.inputs[1], frozen=True)
    return build.rule((dims, tested), (dims,))


@rule("aten.bucketize.Tensor")
def bucketize(op: Operands) -> Rule:
    """Every element against all boundaries."""
    return isin(op)


def is_pointwise(target: str) -> bool:
    """Whether torch says that the operator is element-wise, without effects or random numbers."""
    namespace, name, overload = (*target.split("."), "", "")[:3]
    packet = getattr(getattr(torch.ops, namespace), name, None) if name else None
    operator = getattr(packet, overload, None) if packet and overload else None
    if not isinstance(operator, torch._ops.OpOverload):
        return False
    tags = operator.tags
    is_random = torch.Tag.nondeterministic_seeded in tags
    return torch.Tag.pointwise in tags and not is_random and not operator._schema.is_mutable

"""The arithmetic of product operators, from the shapes of a call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

from superscaler.graph.graph import Graph
from superscaler.graph.operator import Operator

Shape = Sequence[int]


def is_product(operator: Operator) -> bool:
    """Whether an operator's time is arithmetic (products), not memory traffic."""
    return _name(operator) in _COUNTS


def operator_flops(graph: Graph, operator: Operator) -> float:
    """Twice the multiplications of a graph's operator, whole; 0 where it is no product."""
    inputs, outputs = (
        [graph.tensors[t].shape for t in ids if t >= 0]
        for ids in (operator.inputs, operator.outputs)
    )
    return flops(_name(operator), inputs, outputs)


def _name(operator: Operator) -> str:
    return operator.target.split(".")[1]  # of aten.mm.default


def flops(name: str, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> float:
    """Twice the multiplications of a product operator; 0 for others."""
    count = _COUNTS.get(name)
    return float(count(inputs, outputs)) if count is not None else 0.0


def _product(inputs: Sequence[Shape], outputs: Sequence[Shape]) -> float:
    return 2 * prod(inputs[0]) * inputs[1][-1]


def _biased_product(inputs: Sequence[Shape], outputs: Sequence[Shape]) -> float:
    return _product(inputs[1:], outputs)


def _attention(inputs: Sequence[Shape], outputs: Sequence[Shape]) -> float:
    """Scores and their product with the values; a causal kernel skips half at best, not counted."""
    q, k, v = inputs[:3]
    return 2 * prod(q[:-1]) * k[-2] * (q[-1] + v[-1])


def _attention_backward(inputs: Sequence[Shape], outputs: Sequence[Shape]) -> float:
    """Five products where the forward has two: scores again, and four gradients."""
    return 2.5 * _attention(inputs[1:], outputs)


def _convolution(inputs: Sequence[Shape], outputs: Sequence[Shape]) -> float:
    return 2 * prod(outputs[0]) * prod(inputs[1][1:])


def _convolution_backward(inputs: Sequence[Shape], outputs: Sequence[Shape]) -> float:
    """For the gradients of the input and of the weight; `inputs` are gradient, input, weight."""
    return 4 * prod(inputs[0]) * prod(inputs[2][1:])


def _grouped(inputs: Sequence[Shape], outputs: Sequence[Shape]) -> float:
    """Every row (or contracted element) belongs to one group."""
    return 2 * prod(inputs[0]) * inputs[1][-1]


_COUNTS: dict[str, Callable[[Sequence[Shape], Sequence[Shape]], float]] = {
    "mm": _product,
    "bmm": _product,
    "addmm": _biased_product,
    "baddbmm": _biased_product,
    "convolution": _convolution,
    "convolution_backward": _convolution_backward,
    "attention": _attention,
    "attention_block": _attention,
    "attention_backward": _attention_backward,
    "attention_backward_mask": _attention_backward,
    "grouped_mm": _grouped,
    "grouped_mm_part": _grouped,
}

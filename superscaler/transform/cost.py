"""A first estimate of what operators cost, for cutting stages and ranking axes."""

from __future__ import annotations

from math import prod

from superscaler.graph.axis import Axes
from superscaler.graph.graph import Graph

HEAVY = (
    "mm",
    "bmm",
    "convolution",
    "convolution_backward",
    "attention",
    "attention_block",
    "attention_backward",
    "grouped_mm",
)
FLOPS_PER_BYTE = 50.0  # of memory traffic, against arithmetic


def is_heavy(target: str) -> bool:
    """Whether the operator's time is arithmetic (products), not memory traffic."""
    return target.split(".")[1] in HEAVY


def flops(graph: Graph, axes: Axes, op: int) -> float:
    """Twice the multiplications of a product operator; 0 for others."""
    operator = graph.operators[op]
    if not is_heavy(operator.target):
        return 0.0
    shapes = [graph.tensors[t].shape for t in operator.inputs]
    if "convolution_backward" in operator.target:
        return 4.0 * prod(shapes[0]) * prod(shapes[2][1:])
    if "convolution" in operator.target:
        return 2.0 * prod(graph.tensors[operator.outputs[0]].shape) * prod(shapes[1][1:])
    size = 2.0 * prod(it.size for it in axes.operators[op].iters)
    return size / shapes[-1][0] if "grouped_mm" in operator.target else size


def cost(graph: Graph, axes: Axes, op: int) -> float:
    """Arithmetic plus memory traffic of an operator, in flops."""
    operator = graph.operators[op]
    if axes.operators[op].rule.is_view:
        return 0.0
    moved = sum(graph.tensors[t].num_bytes for t in (*operator.inputs, *operator.outputs) if t >= 0)
    return flops(graph, axes, op) + FLOPS_PER_BYTE * moved

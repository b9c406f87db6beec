"""A first estimate of what operators cost, for cutting stages and ranking axes."""

from __future__ import annotations

from superscaler.graph.axis import Axes
from superscaler.graph.graph import Graph
from superscaler.ops.flops import operator_flops

FLOPS_PER_BYTE = 50.0  # of memory traffic, against arithmetic


def cost(graph: Graph, axes: Axes, op: int) -> float:
    """Arithmetic plus memory traffic of an operator, in flops."""
    operator = graph.operators[op]
    if axes.operators[op].rule.is_view:
        return 0.0
    moved = sum(graph.tensors[t].num_bytes for t in (*operator.inputs, *operator.outputs) if t >= 0)
    return operator_flops(graph, operator) + FLOPS_PER_BYTE * moved

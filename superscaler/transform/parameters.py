"""Parameters: the operators that depend on nothing else, as casts of weights do.

Of several microbatches they are the same for all, so they run once a step.
"""

from __future__ import annotations

from superscaler.graph.axis import Axes
from superscaler.graph.graph import Graph
from superscaler.graph.operator import Operator, Phase
from superscaler.graph.tensor import TensorKind
from superscaler.ops.copies import TO_DEVICE


def of_parameters(graph: Graph) -> set[int]:
    """Operators that read parameters, or what such operators make of them, and nothing else."""
    made = {t.id for t in graph.of_kind(TensorKind.PARAM)}
    found = set()
    for op in graph.operators:
        if op.phase is not Phase.UPDATE and op.inputs and made.issuperset(op.inputs):
            made.update(op.outputs)
            found.add(op.id)
    return found


def follows(axes: Axes, op: Operator) -> bool:
    """Whether one of them runs with its readers all the same: views and copies do."""
    return axes.operators[op.id].rule.is_view or op.target == TO_DEVICE


def once_a_step(graph: Graph, axes: Axes) -> set[int]:
    """Operators that run once for all microbatches, where there are several."""
    return {op for op in of_parameters(graph) if not follows(axes, graph.operators[op])}

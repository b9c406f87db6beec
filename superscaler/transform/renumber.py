"""Renumber: a graph from operators in a new order, ids equal to positions again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from superscaler.graph.graph import Graph
from superscaler.graph.operator import Operator
from superscaler.graph.tensor import PTensor


def renumber(graph: Graph, tensors: Iterable[PTensor], operators: list[Operator]) -> Graph:
    """`graph` with these tensors and operators; operator ids become positions."""
    position = {op.id: i for i, op in enumerate(operators)}
    moved = tuple(
        replace(op, id=i, forward=position.get(op.forward, -1) if op.forward >= 0 else -1)
        for i, op in enumerate(operators)
    )
    updates = tuple(replace(u, operator=position[u.operator]) for u in graph.updates)
    return replace(graph, tensors=tuple(tensors), operators=moved, updates=updates)

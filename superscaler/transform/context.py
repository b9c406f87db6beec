"""Context axes: the positions that attention looks from, which context parallelism splits."""

from __future__ import annotations

from superscaler.graph.axis import Axes
from superscaler.graph.graph import Graph

QUERIES, KEYS = "sq", "sk"  # what the rules of attention call their positions


def context_axes(graph: Graph, axes: Axes, striped: bool = False) -> list[int]:
    """The axes of the queries of every attention, in the order of the graph: each operator's first
    that can be split; the last one where its elements are to be dealt out."""
    found: dict[int, None] = {}
    for op in graph.operators:
        own = axes.operators[op.id]
        if op.target.startswith("superscaler.attention"):
            free = [k for k in own.leaves.get(QUERIES, ()) if not own.iters[k].frozen]
            found.update((own.iters[k].axis, None) for k in (free[-1:] if striped else free[:1]))
    return list(found)

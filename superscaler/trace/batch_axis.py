"""The batch's axis: which factor of the first dim of its leaves data parallelism splits."""

from __future__ import annotations

from collections import Counter

from superscaler.graph.axis import OperatorAxes
from superscaler.graph.graph import Graph

Numbers = tuple[tuple[int, ...], ...]


def batch_axis(
    graph: Graph, slots: Numbers, factors: Numbers, operators: tuple[OperatorAxes, ...]
) -> int | None:
    """Of each leaf's first dim the factor that fewest operators need whole, the major one of
    equals; of these the one that most leaves have. None if no leaf has a first dim.

    A step that takes the batch apart itself (`x[:4]`, `x.chunk(2)`) makes its dim a product
    (pieces, piece). It needs all pieces at once, and does the same with each: what can be split is
    the piece.
    """
    wholes = _num_whole(graph, slots, operators)
    leaves = [t for t in graph.batch if t >= 0 and graph.tensors[t].shape and factors[t][0]]
    found = [min(slots[t][: factors[t][0]], key=wholes.__getitem__) for t in leaves]
    return max(sorted(set(found)), key=found.count) if found else None


def _num_whole(graph: Graph, slots: Numbers, operators: tuple[OperatorAxes, ...]) -> Counter[int]:
    """How many operators read each axis and cannot be split on it."""
    wholes: Counter[int] = Counter()
    for op, own in zip(graph.operators, operators, strict=True):
        free = {it.axis for it in own.iters if not it.frozen}
        wholes.update({axis for t in op.inputs for axis in slots[t]} - free)
    return wholes

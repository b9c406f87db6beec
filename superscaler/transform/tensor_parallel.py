"""Tensor-parallel axes: which axes of a graph are worth splitting across devices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from superscaler.graph.axis import Axes
from superscaler.graph.graph import Graph
from superscaler.ops.flops import is_product, operator_flops
from superscaler.transform.select import matches

NEARLY = 0.75  # of another axis's gain: worth it for sharing more products


@dataclass
class _Score:
    """What splitting one axis does: flops that are shared, bytes that must be exchanged."""

    flops: float = 0.0
    exchanged: float = 1.0
    heavy: set[int] = field(default_factory=set)

    @property
    def gain(self) -> float:
        return self.flops / self.exchanged

    def gives_way_to(self, other: _Score) -> bool:
        """Whether `other` shares all that this one does and more, for nearly the same exchange.

        So key and value heads win over the queries' repetition of them (grouped attention).
        """
        return self.heavy < other.heavy and other.gain >= NEARLY * self.gain


def tensor_parallel_axes(graph: Graph, axes: Axes, parts: int) -> list[int]:
    """Axes to split in `parts`, best first: at most one in each product operator.

    An axis gains the flops of the products that have it, and costs the bytes of partial sums to
    reduce (where it is contracted) and of operands to gather (where it is frozen). Axes of the
    batch's leaves (batch and positions) are other forms of parallelism and are left out.
    """
    return _chosen(graph, axes, _scores(graph, axes), parts)


def left_whole(graph: Graph, axes: Axes, parts: int, where: Sequence[str]) -> list[int]:
    """The axes worth splitting, of products in modules `where` (anywhere if it names none), that
    `parts` does not divide, where these products have no other axis that is split."""
    scores = _scores(graph, axes)
    split = {op for a in _chosen(graph, axes, scores, parts) for op in scores[a].heavy}

    def is_meant(op: int) -> bool:
        module = graph.operators[op].module
        return op not in split and (not where or any(matches(module, p) for p in where))

    return [a for a in _chosen(graph, axes, scores, 1) if any(map(is_meant, scores[a].heavy))]


def _chosen(graph: Graph, axes: Axes, scores: dict[int, _Score], parts: int) -> list[int]:
    taken: set[int] = set()
    chosen: list[int] = []
    data = {a for t in graph.batch if t >= 0 for a in axes.slots[t]}
    in_params = {a for u in graph.updates for a in axes.slots[u.param]}
    usable = {
        a: score
        for a, score in scores.items()
        if a in in_params and a not in data and axes.axes[a].size % parts == 0 and score.flops
    }
    for axis, score in sorted(usable.items(), key=lambda item: (-item[1].gain, item[0])):
        free = [other for other in usable.values() if not other.heavy & taken]
        if score.heavy & taken or any(score.gives_way_to(other) for other in free):
            continue
        taken |= score.heavy
        chosen.append(axis)
    return chosen


def _scores(graph: Graph, axes: Axes) -> dict[int, _Score]:
    scores: dict[int, _Score] = {}
    for op in graph.operators:
        own = axes.operators[op.id]
        work = operator_flops(graph, op)
        usable = {it.axis for it in own.iters if not it.frozen}
        for axis in usable:
            score = scores.setdefault(axis, _Score())
            score.flops += work
            if is_product(op):
                score.heavy.add(op.id)
        _add_exchanges(graph, axes, op.id, usable, scores)
    return scores


def _add_exchanges(
    graph: Graph, axes: Axes, op: int, usable: set[int], scores: dict[int, _Score]
) -> None:
    own, operator = axes.operators[op], graph.operators[op]
    for k, tensor in enumerate(operator.outputs):
        if tensor < 0:
            continue
        here = {own.iters[i].axis for i in own.outputs[k] if i >= 0}
        for it in own.iters:
            if it.reduce and not it.frozen and it.axis not in here:
                scores.setdefault(it.axis, _Score()).exchanged += graph.tensors[tensor].num_bytes
    for tensor in operator.inputs:
        for axis in set(axes.slots[tensor]) - usable:
            scores.setdefault(axis, _Score()).exchanged += graph.tensors[tensor].num_bytes


def token_axes(graph: Graph, axes: Axes, split: set[int]) -> list[int]:
    """The axes of positions: those that, beside the batch's first, run through what operators with
    a contracted tensor-parallel axis put out, and that are in no parameter."""
    in_params = {a for u in graph.updates for a in axes.slots[u.param]}
    batch = axes.names.get("batch", -1)
    found: dict[int, None] = {}
    for op in graph.operators:
        own = axes.operators[op.id]
        if not any(it.axis in split and it.reduce and not it.frozen for it in own.iters):
            continue
        for tensor in op.outputs:
            for axis in axes.slots[tensor] if tensor >= 0 else ():
                if axis not in in_params and axis not in split and axis != batch:
                    found[axis] = None
    return list(found)

"""Recompute: forward operators run again in the backward instead of keeping what they made."""

from __future__ import annotations

from dataclasses import replace

from superscaler.graph.axis import Axes
from superscaler.graph.graph import Graph
from superscaler.graph.operator import Operator, Phase
from superscaler.graph.tensor import PTensor
from superscaler.transform.renumber import renumber
from superscaler.transform.select import matched_prefix


def recompute(graph: Graph, axes: Axes, patterns: tuple[str, ...]) -> tuple[Graph, Axes]:
    """Operators of matching modules run again, module by module, for the backward's reads.

    Before: y = f(x) in the forward; the backward reads y.
    After:  y = f(x) in the forward; y' = f(x) in the backward, which reads y'.

    Each matching module is a region of its own: what enters it is kept, what it makes is made again.
    """
    region = _regions(graph, patterns)
    clones: dict[int, int] = {}  # tensor -> its clone
    tensors, slots, factors = list(graph.tensors), list(axes.slots), list(axes.factors)
    before: dict[int, list[Operator]] = {}  # backward operator -> clones that go before it
    own_axes = {}
    count = len(graph.operators)

    def clone_tensor(t: int) -> int:
        old = graph.tensors[t]
        clones[t] = len(tensors)
        tensors.append(PTensor(len(tensors), f"{old.name}.again", old.shape, old.dtype, old.kind))
        slots.append(axes.slots[t])
        factors.append(axes.factors[t])
        return clones[t]

    def clone(op: Operator, reader: int, home: str) -> None:
        nonlocal count
        for t in op.inputs:
            maker = graph.producer.get(t)
            if maker is not None and t not in clones and region.get(maker[0]) == home:
                clone(graph.operators[maker[0]], reader, home)
        inputs = tuple(clones[t] if _is_cloned(t, home) else t for t in op.inputs)
        outputs = tuple(clone_tensor(t) if t >= 0 else t for t in op.outputs)
        copy = replace(
            op, id=count, name=f"{op.name}.again", inputs=inputs, outputs=outputs, phase=Phase.BACKWARD, forward=op.id
        )
        own_axes[count] = axes.operators[op.id]
        before.setdefault(reader, []).append(copy)
        count += 1

    def _is_cloned(t: int, home: str) -> bool:
        maker = graph.producer.get(t)
        return t in clones and maker is not None and region.get(maker[0]) == home

    operators: list[Operator] = []
    for op in graph.operators:
        if op.phase is Phase.BACKWARD:
            for t in op.inputs:
                maker = graph.producer.get(t)
                if maker is not None and maker[0] in region and t not in clones:
                    clone(graph.operators[maker[0]], op.id, region[maker[0]])
            operators += before.get(op.id, [])
            op = replace(op, inputs=tuple(clones.get(t, t) for t in op.inputs))
        operators.append(op)
    ordered_axes = tuple(own_axes[op.id] if op.id in own_axes else axes.operators[op.id] for op in operators)
    new_axes = replace(axes, slots=tuple(slots), factors=tuple(factors), operators=ordered_axes)
    return renumber(graph, tensors, operators), new_axes


def _regions(graph: Graph, patterns: tuple[str, ...]) -> dict[int, str]:
    """Forward operator -> the matching module it is recomputed with."""
    found: dict[int, str] = {}
    for op in graph.operators:
        if op.phase is not Phase.FORWARD:
            continue
        for pattern in patterns:
            prefix = matched_prefix(op.module, pattern) if op.module else None
            if prefix is not None:
                found[op.id] = prefix
                break
    return found

"""Recompute: forward operators run again in the backward instead of keeping what they made."""

from __future__ import annotations

from dataclasses import replace

from superscaler.graph.axis import Axes, OperatorAxes
from superscaler.graph.graph import Graph
from superscaler.graph.operator import AGAIN, Operator, Phase
from superscaler.graph.tensor import PTensor
from superscaler.transform.renumber import renumber
from superscaler.transform.select import check_modules, matched_prefix

Region = str | int


def recompute(graph: Graph, axes: Axes, regions: dict[int, Region]) -> tuple[Graph, Axes]:
    """Forward operators run again, region by region, for the backward's reads.

    Before: y = f(x) in the forward; the backward reads y.
    After:  y = f(x) in the forward; y' = f(x) in the backward, which reads y'.

    `regions`: operator -> the region it is in, see `module_regions`. What enters a region is kept,
    the rest is made again.
    """
    if not regions:
        return graph, axes
    work = _Work(graph, axes, regions)
    operators: list[Operator] = []
    own_axes: list[OperatorAxes] = []
    for op in graph.operators:
        if op.phase is Phase.BACKWARD:
            for copy in work.clones_for(op):
                operators.append(copy)
                own_axes.append(axes.operators[copy.forward])
            op = replace(op, inputs=tuple(work.clones.get(t, t) for t in op.inputs))
        operators.append(op)
        own_axes.append(axes.operators[op.id])
    new_axes = replace(
        axes, slots=tuple(work.slots), factors=tuple(work.factors), operators=tuple(own_axes)
    )
    return renumber(graph, work.tensors, operators), new_axes


class _Work:
    """The clones made so far: tensor -> its clone."""

    def __init__(self, graph: Graph, axes: Axes, region: dict[int, Region]) -> None:
        self.graph = graph
        self.axes = axes
        self.region = region
        self.clones: dict[int, int] = {}
        self.kept: set[int] = set()  # what clones read of other regions
        self.tensors = list(graph.tensors)
        self.slots, self.factors = list(axes.slots), list(axes.factors)
        self.count = len(graph.operators)

    def clones_for(self, reader: Operator) -> list[Operator]:
        """New clones, in order, of what a backward operator reads."""
        needed: set[int] = set()
        for t in reader.inputs:
            maker = self._maker(t)
            if maker >= 0 and t not in self.clones and t not in self.kept:
                needed |= self._needed(maker)
        for op in needed:
            inside = (t for t in self.graph.operators[op].inputs if self._maker(t) not in needed)
            self.kept.update(t for t in inside if t not in self.clones)
        return [self._clone(self.graph.operators[op]) for op in sorted(needed)]

    def _maker(self, tensor: int) -> int:
        """The recomputed operator that makes a tensor, -1 when it is kept."""
        op = self.graph.producer.get(tensor, (-1, 0))[0]
        return op if op in self.region else -1

    def _needed(self, op: int) -> set[int]:
        """The operators of one region, not yet cloned, that `op` depends on; itself included."""
        home, found, stack = self.region[op], {op}, [op]
        while stack:
            for t in self.graph.operators[stack.pop()].inputs:
                maker = self._maker(t)
                if (
                    maker >= 0
                    and self.region[maker] == home
                    and maker not in found
                    and t not in self.clones
                    and t not in self.kept
                ):
                    found.add(maker)
                    stack.append(maker)
        return found

    def _clone(self, op: Operator) -> Operator:
        home = self.region[op.id]
        inputs = tuple(
            self.clones.get(t, t) if self.region.get(self._maker(t)) == home else t
            for t in op.inputs
        )
        outputs = tuple(self._clone_tensor(t) if t >= 0 else t for t in op.outputs)
        self.count += 1
        return replace(
            op,
            id=self.count - 1,
            name=op.name + AGAIN,
            inputs=inputs,
            outputs=outputs,
            phase=Phase.BACKWARD,
            forward=op.id,
        )

    def _clone_tensor(self, t: int) -> int:
        old = self.graph.tensors[t]
        self.clones[t] = len(self.tensors)
        self.tensors.append(
            PTensor(len(self.tensors), old.name + AGAIN, old.shape, old.dtype, old.kind)
        )
        self.slots.append(self.axes.slots[t])
        self.factors.append(self.axes.factors[t])
        return self.clones[t]


def module_regions(graph: Graph, patterns: tuple[str, ...]) -> dict[int, Region]:
    """Forward operator -> the matching module it is recomputed with.

    Raises PlanError for a pattern that matches no module.
    """
    check_modules(graph, patterns, "recompute", Phase.FORWARD)
    found: dict[int, Region] = {}
    for op in graph.operators:
        if op.phase is not Phase.FORWARD:
            continue
        for pattern in patterns:
            prefix = matched_prefix(op.module, pattern) if op.module else None
            if prefix is not None:
                found[op.id] = prefix
                break
    return found

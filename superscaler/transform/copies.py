"""Copy operators: what a rewrite adds to a graph to move tensors between device and host memory."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from superscaler.graph.axis import Axes, Iter, OperatorAxes
from superscaler.graph.graph import Graph
from superscaler.graph.operator import Operator, Phase, Ref
from superscaler.graph.rule import Operands
from superscaler.graph.tensor import DEVICE, HOST, PTensor, TensorKind
from superscaler.ops import rule_for
from superscaler.ops.copies import TO_HOST
from superscaler.transform.renumber import renumber

Added = tuple[Operator, OperatorAxes]


@dataclass
class Additions:
    """New operators, by the operator that they come right before or right after.

    Until `done` they have numbers beyond those of the graph's own operators.
    """

    graph: Graph
    axes: Axes
    before: dict[int, list[Added]] = field(default_factory=dict)
    after: dict[int, list[Added]] = field(default_factory=dict)
    renamed: dict[tuple[int, int], int] = field(default_factory=dict)  # reader, tensor -> new one

    def __post_init__(self) -> None:
        self.tensors = list(self.graph.tensors)
        self.slots, self.factors = list(self.axes.slots), list(self.axes.factors)
        self.count = len(self.graph.operators)

    def copy(self, target: str, source: int, suffix: str, like: Operator, phase: Phase) -> Added:
        """`source` copied by operator `target`, in the module, and with the stage, of `like`."""
        new = self._like(source, suffix, HOST if target == TO_HOST else DEVICE)
        name = self.tensors[new].name
        op = Operator(
            self._number(),
            name,
            target,
            (Ref(0),),
            {},
            (source,),
            (new,),
            phase,
            like.module,
            like.source,
            like.forward if like.phase is Phase.BACKWARD and like.forward >= 0 else like.id,
        )
        return op, self._axes(op)

    def again(self, view: Operator, source: int, suffix: str) -> Added:
        """A view of the forward, with all its outputs, in the backward, of another tensor."""
        new = tuple(self._like(t, suffix) if t >= 0 else t for t in view.outputs)
        op = replace(
            view,
            id=self._number(),
            name=self.tensors[next(t for t in new if t >= 0)].name,
            inputs=(source,),
            outputs=new,
            phase=Phase.BACKWARD,
            forward=view.id,
        )
        return op, self.axes.operators[view.id]

    def done(self) -> tuple[Graph, Axes]:
        """The graph and its axes with the new operators in place."""
        found: list[Added] = []
        for op in self.graph.operators:
            found += self.before.get(op.id, ())
            inputs = tuple(self.renamed.get((op.id, t), t) for t in op.inputs)
            found.append((replace(op, inputs=inputs), self.axes.operators[op.id]))
            found += self.after.get(op.id, ())
        axes = replace(
            self.axes,
            slots=tuple(self.slots),
            factors=tuple(self.factors),
            operators=tuple(own for _, own in found),
        )
        return renumber(self.graph, self.tensors, [op for op, _ in found]), axes

    def _number(self) -> int:
        self.count += 1
        return self.count - 1

    def _like(self, t: int, suffix: str, memory: str = DEVICE) -> int:
        old = self.tensors[t]
        new = len(self.tensors)
        name = f"{old.name}.{suffix}"
        taken = sum(1 for known in self.tensors if known.name.startswith(name))
        name += str(taken) if taken else ""
        self.tensors.append(PTensor(new, name, old.shape, old.dtype, TensorKind.VALUE, memory))
        self.slots.append(self.slots[t])
        self.factors.append(self.factors[t])
        return new

    def _axes(self, op: Operator) -> OperatorAxes:
        """Element-wise: each slot of the tensor is an iteration axis."""
        tensor = op.inputs[0]
        shape = self.tensors[tensor].shape
        rule, known = rule_for(Operands(op.target, op.args, op.kwargs, (shape,), (shape,)))
        iters, slot = [], 0
        for dim, count in enumerate(self.factors[tensor]):
            for leaf in range(count):
                axis = self.axes.axes[self.slots[tensor][slot]]
                iters.append(
                    Iter(axis.id, axis.size, f"d{dim}", leaf, None, False, axis.size == 0, 0)
                )
                slot += 1
        covers = tuple(range(slot))
        return OperatorAxes(tuple(iters), (covers,), (covers,), rule, known)

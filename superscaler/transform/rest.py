"""Rest: parameters, optimizer states and batches that are in host memory while not used."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from difflib import get_close_matches

from superscaler.errors import TransformError
from superscaler.graph.axis import Axes
from superscaler.graph.graph import Graph
from superscaler.graph.operator import Operator, Phase
from superscaler.graph.tensor import HOST, TensorKind
from superscaler.ops.copies import TO_DEVICE
from superscaler.transform.copies import Additions
from superscaler.transform.select import matches

CASTS = ("aten._to_copy.default",)


def offload_states(graph: Graph) -> Graph:
    """All optimizer states rest in host memory; updates bring them in and back, some at a time.

    Raises TransformError when there are none.
    """
    states = {before for update in graph.updates for _, before, _ in update.states}
    if not states:
        raise TransformError(
            f"offload optimizer: {graph.optimizer or 'the step'} keeps no states of its "
            "parameters; leave it out, or use an optimizer that does, such as AdamW"
        )
    return _resting(graph, states)


def offload_parameters(graph: Graph, axes: Axes, patterns: tuple[str, ...]) -> tuple[Graph, Axes]:
    """Matching parameters rest in host memory; each module's use is of a copy of its own.

    Before: y = mm(x, t(w)) in the forward; dx = mm(dy, w) in the backward
    After:  y = mm(x, t(to_device(w))) in the forward; dx = mm(dy, to_device(w)) in the backward

    What the forward makes of a parameter alone (views, casts) is made again for the backward.
    Raises TransformError when a pattern matches no parameter.
    """
    parameters = graph.of_kind(TensorKind.PARAM)
    for pattern in patterns:
        if not any(matches(t.name, pattern) for t in parameters):
            names = [t.name for t in parameters]
            close = get_close_matches(pattern, names, 3, 0.3) or names[:3]
            raise TransformError(
                f"offload parameters: none matches {pattern!r}; expected names or their first "
                f"parts (* matches one component), for example {', '.join(close)}"
            )
    chosen = {t.id for t in parameters if any(matches(t.name, p) for p in patterns)}
    work = _Uses(_resting(graph, chosen), axes, chosen)
    for op in graph.operators:
        work.reader(op)
    return work.additions.done()


def offload_batch(graph: Graph, axes: Axes) -> tuple[Graph, Axes]:
    """The batch rests in host memory; each module's use of it is of a copy of its own, made in the
    forward and made again in the backward.

    What the forward makes of it by views and casts alone is made again for the backward.
    """
    chosen = {t.id for t in graph.of_kind(TensorKind.INPUT)}
    work = _Uses(_resting(graph, chosen), axes, chosen)
    for op in graph.operators:
        work.reader(op)
    return work.additions.done()


def _resting(graph: Graph, chosen: Collection[int]) -> Graph:
    tensors = (replace(t, memory=HOST) if t.id in chosen else t for t in graph.tensors)
    return replace(graph, tensors=tuple(tensors))


class _Uses:
    """The copies so far: (tensor, module, phase) -> the tensor in its place."""

    def __init__(self, graph: Graph, axes: Axes, chosen: set[int]) -> None:
        self.graph, self.chosen = graph, chosen
        self.additions = Additions(graph, axes)
        self.copies: dict[tuple[int, str, Phase], int] = {}

    def reader(self, op: Operator) -> None:
        """Let an operator of the forward or backward read copies."""
        if op.phase is Phase.UPDATE:
            return
        for t in dict.fromkeys(op.inputs):
            new = self.back(t, op)
            if new != t:
                self.additions.renamed[op.id, t] = new

    def is_cheap(self, maker: Operator) -> bool:
        """Whether to make what an operator makes again for the backward, rather than keep it."""
        return maker.target in CASTS or self.additions.axes.operators[maker.id].rule.is_view

    def back(self, t: int, reader: Operator) -> int:
        """What `reader` reads in place of tensor t; t itself where that stays."""
        key = (t, reader.module, reader.phase)
        if key in self.copies:
            return self.copies[key]
        added = self.additions
        before = added.before.setdefault(reader.id, [])
        if t in self.chosen:
            new = added.copy(TO_DEVICE, t, "here", reader, reader.phase)
        else:
            maker = self.graph.operators[self.graph.producer.get(t, (-1, 0))[0]]
            if reader.phase is Phase.FORWARD or t not in self.graph.producer:
                return t
            if maker.phase is not Phase.FORWARD or not self.is_cheap(maker):
                return t
            source = self.back(maker.inputs[0], reader)
            if source == maker.inputs[0]:
                return t
            new = added.again(maker, source, "here")
        before.append(new)
        self.copies[key] = new[0].outputs[self.place(t)]
        return self.copies[key]

    def place(self, t: int) -> int:
        """Which output of its maker a tensor is; 0 for what rests."""
        return 0 if t in self.chosen else self.graph.producer[t][1]

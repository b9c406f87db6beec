"""Offload: what the backward reads waits in host memory."""

from __future__ import annotations

from superscaler.errors import TransformError
from superscaler.graph.axis import Axes
from superscaler.graph.graph import Graph
from superscaler.graph.operator import Operator, Phase
from superscaler.graph.tensor import TensorKind
from superscaler.ops.copies import TO_DEVICE, TO_HOST
from superscaler.transform.copies import Additions
from superscaler.transform.select import matched_prefix, select


def offload_activations(graph: Graph, axes: Axes, patterns: tuple[str, ...]) -> tuple[Graph, Axes]:
    """Activations that the backward of matching modules reads wait for it in host memory.

    Before: y = f(x) in the forward; dz = g(dy, y) in the backward
    After:  y = f(x), h = to_host(y) in the forward; z = to_device(h), dz = g(dy, z) in the backward

    What is read as a view is copied as the tensor that it shows, once a module. Parameters, the
    batch and what does not depend on the batch stay. Raises TransformError when a pattern matches
    nothing, or nothing is to be copied.
    """
    for pattern in patterns:
        select(graph, pattern)
    work = _Activations(graph, axes, patterns)
    for op in graph.operators:
        if op.phase is Phase.BACKWARD:
            work.reader(op)
    if not work.copies:
        raise TransformError(
            f"offload activations of {', '.join(patterns)}: the backward of these modules reads "
            "none; name modules with work in the forward, such as layers.*"
        )
    return work.additions.done()


class _Activations:
    """The copies so far: (tensor, module) -> the tensor that came back."""

    def __init__(self, graph: Graph, axes: Axes, patterns: tuple[str, ...]) -> None:
        self.graph, self.axes, self.patterns = graph, axes, patterns
        self.additions = Additions(graph, axes)
        self.copies: dict[tuple[int, str], int] = {}
        self.from_batch = {t.id for t in graph.of_kind(TensorKind.INPUT)}
        for op in graph.operators:
            if op.phase is Phase.FORWARD and self.from_batch.intersection(op.inputs):
                self.from_batch.update(op.outputs)

    def reader(self, op: Operator) -> None:
        """Let a backward operator read what came back."""
        module = self.region(op)
        if module is None:
            return
        for t in dict.fromkeys(op.inputs):
            new = self.back(t, module, op)
            if new != t:
                self.additions.renamed[op.id, t] = new

    def region(self, op: Operator) -> str | None:
        """The matching module that an operator belongs to."""
        forward = self.graph.operators[op.forward].module if op.forward >= 0 else ""
        path = op.module or forward
        found = (matched_prefix(path, p) for p in self.patterns) if path else ()
        return next((prefix for prefix in found if prefix is not None), None)

    def back(self, t: int, module: str, reader: Operator) -> int:
        """What `reader` reads in place of tensor t; t itself where that stays."""
        if (t, module) in self.copies:
            return self.copies[t, module]
        maker = self.graph.operators[self.graph.producer[t][0]] if self.is_made(t) else None
        if maker is None:
            return t
        added = self.additions
        before, place = added.before.setdefault(reader.id, []), 0
        if self.axes.operators[maker.id].rule.is_view and len(maker.inputs) == 1:
            source = self.back(maker.inputs[0], module, reader)
            if source == maker.inputs[0]:
                return t
            new, place = added.again(maker, source, "back"), self.graph.producer[t][1]
        else:
            like = reader if reader.forward >= 0 else maker
            out = added.copy(TO_HOST, t, "host", like, Phase.FORWARD)
            added.after.setdefault(maker.id, []).append(out)
            new = added.copy(TO_DEVICE, out[0].outputs[0], "back", like, Phase.BACKWARD)
        before.append(new)
        self.copies[t, module] = new[0].outputs[place]
        return self.copies[t, module]

    def is_made(self, t: int) -> bool:
        """Whether the forward makes tensor t out of the batch, and it is worth a copy."""
        if t not in self.graph.producer or t not in self.from_batch:
            return False
        maker = self.graph.operators[self.graph.producer[t][0]]
        return maker.phase is Phase.FORWARD and bool(self.graph.tensors[t].shape)

"""Graph: the joint forward, backward and update of one training step, in topological order."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from superscaler.graph.operator import Operator
from superscaler.graph.tensor import PTensor, TensorKind


@dataclass(frozen=True)
class Update:
    """What the optimizer does to one parameter: ids of PTensors before and after the step.

    `states` pairs each element-wise state tensor's name ("exp_avg") with (before, after) ids.
    """

    param: int
    new_param: int
    grad: int
    operator: int
    states: tuple[tuple[str, int, int], ...] = ()


@dataclass(frozen=True)
class Graph:
    """One training step on the global batch.

    `tensors[i].id == i` and `operators[i].id == i`; operators are topologically sorted.
    `loss` and `metrics` are PTensor ids; `updates` one entry per trained parameter; `buffers` maps
    a buffer's PTensor id to the id of its value after the step. `aliases` maps further names of a
    tied parameter to the name kept. `batch_spec` is the pytree spec of the batch, whose leaves in
    order are `batch`: PTensor ids, or -1 for a leaf the step does not read; `constants` are those
    that are no tensors: (number of the leaf, its name, its value as text). `optimized` are name,
    shape and dtype of what the optimizer is given, in its order, also of parameters that the step
    does not use.
    """

    tensors: tuple[PTensor, ...]
    operators: tuple[Operator, ...]
    loss: int
    metrics: tuple[tuple[str, int], ...]
    updates: tuple[Update, ...]
    buffers: dict[int, int]
    batch: tuple[int, ...]
    batch_spec: Any
    aliases: dict[str, str] = field(default_factory=dict)
    optimizer: str = ""  # class name and defaults, for text and manifests
    optimized: tuple[tuple[str, tuple[int, ...], str], ...] = ()
    constants: tuple[tuple[int, str, str], ...] = ()
    grad_norm: int = -1  # PTensor id of the global gradient norm, when gradients are clipped

    @cached_property
    def producer(self) -> dict[int, tuple[int, int]]:
        """PTensor id -> (operator id, output number), for tensors an operator produces."""
        return {t: (op.id, k) for op in self.operators for k, t in enumerate(op.outputs)}

    @cached_property
    def consumers(self) -> dict[int, tuple[tuple[int, int], ...]]:
        """PTensor id -> ((operator id, input number), ...), in operator order."""
        readers: dict[int, list[tuple[int, int]]] = {}
        for op in self.operators:
            for i, t in enumerate(op.inputs):
                readers.setdefault(t, []).append((op.id, i))
        return {t: tuple(r) for t, r in readers.items()}

    @cached_property
    def update_of(self) -> dict[int, int]:
        """Parameter or optimizer state (PTensor id before the step) -> its update operator."""
        return {t: u.operator for u in self.updates for t in (u.param, *(s[1] for s in u.states))}

    @cached_property
    def by_name(self) -> dict[str, PTensor]:
        """PTensor by name."""
        return {t.name: t for t in self.tensors}

    def of_kind(self, kind: TensorKind) -> tuple[PTensor, ...]:
        """The tensors of one kind, in id order."""
        return tuple(t for t in self.tensors if t.kind is kind)

    @cached_property
    def results(self) -> tuple[int, ...]:
        """PTensor ids that exist after the step: loss, metrics, buffers, parameters, states."""
        after = [u.new_param for u in self.updates]
        states = [new for u in self.updates for _, _, new in u.states]
        norm = [self.grad_norm] if self.grad_norm >= 0 else []
        return (
            self.loss,
            *(t for _, t in self.metrics),
            *norm,
            *self.buffers.values(),
            *after,
            *states,
        )

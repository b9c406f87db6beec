"""The text form of a graph: one line per operator, for reading and for comparing."""

from __future__ import annotations

from typing import Any

import torch

from superscaler.dtypes import dtype_name
from superscaler.graph.graph import Graph
from superscaler.graph.operator import Operator, Phase, Ref
from superscaler.graph.tensor import PTensor, TensorKind

_KINDS = (TensorKind.PARAM, TensorKind.BUFFER, TensorKind.INPUT, TensorKind.STATE)


def to_text(graph: Graph) -> str:
    """A readable, deterministic text: what exists before the step, each operator, the results.

    fc.mm: float32[8, 4] = aten.mm.default(fc.view, fc.t)  # fc | model.py:12, in forward
    """
    lines = []
    for kind in _KINDS:
        lines += [f"{kind.value} {_typed(tensor)}" for tensor in graph.of_kind(kind)]
    lines += [f"alias {name} = {kept}" for name, kept in sorted(graph.aliases.items())]
    lines += [f"optimizer {graph.optimizer}"] if graph.optimizer else []
    for phase in Phase:
        lines.append(f"{phase.value}:")
        lines += [f"  {_line(graph, op)}" for op in graph.operators if op.phase is phase]
    return "\n".join([*lines, *_results(graph), ""])


def _line(graph: Graph, op: Operator) -> str:
    outputs = ", ".join(_typed(graph.tensors[o]) for o in op.outputs)
    arguments = [_argument(graph, op, a) for a in op.args]
    arguments += [f"{key}={_argument(graph, op, value)}" for key, value in op.kwargs.items()]
    place = " | ".join(part for part in (op.module, op.source) if part)
    differentiates = f" | of {graph.operators[op.forward].name}" if op.forward >= 0 else ""
    comment = f"  # {place}{differentiates}" if place or differentiates else ""
    return f"{outputs} = {op.target}({', '.join(arguments)}){comment}"


def _typed(tensor: PTensor) -> str:
    return f"{tensor.name}: {_dtype(tensor.dtype)}{list(tensor.shape)}"


def _argument(graph: Graph, op: Operator, argument: Any) -> str:
    if isinstance(argument, Ref):
        return graph.tensors[op.inputs[argument.position]].name
    if isinstance(argument, (list, tuple)):
        return f"[{', '.join(_argument(graph, op, item) for item in argument)}]"
    return _dtype(argument) if isinstance(argument, torch.dtype) else repr(argument)


def _dtype(dtype: torch.dtype) -> str:
    return dtype_name(dtype)


def _results(graph: Graph) -> list[str]:
    def name(tensor: int) -> str:
        return graph.tensors[tensor].name

    lines = ["results:", f"  loss = {name(graph.loss)}"]
    lines += [f"  metric {key} = {name(tensor)}" for key, tensor in graph.metrics]
    lines += [f"  grad_norm = {name(graph.grad_norm)}"] if graph.grad_norm >= 0 else []
    lines += [f"  buffer {name(old)} <- {name(new)}" for old, new in graph.buffers.items()]
    for update in graph.updates:
        pairs = [(update.param, update.new_param), *((b, a) for _, b, a in update.states)]
        lines += [f"  {name(before)} <- {name(after)}" for before, after in pairs]
    return lines

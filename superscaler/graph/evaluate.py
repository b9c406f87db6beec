"""Evaluate: a graph executed whole, in one process, with real tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from superscaler.errors import GraphError
from superscaler.graph.graph import Graph
from superscaler.graph.operator import Operator, map_refs

UpdateFunction = Callable[[Operator, list[Tensor]], tuple[Tensor, ...]]

UPDATE = "superscaler.update"


def evaluate(
    graph: Graph, values: dict[int, Tensor], update: UpdateFunction | None = None
) -> dict[int, Tensor]:
    """The value of every tensor, given those that exist before the step.

    `values` maps PTensor ids (parameters, buffers, batch leaves, states) to tensors. `update`
    executes the update operators: it gets the operator and its operands (parameter, gradient,
    states) and returns the operator's outputs; without it the update operators are left out.

    Raises GraphError if an operator reads a tensor that is not there, or gives another shape or
    dtype than the graph says.
    """
    known = dict(values)
    with torch.no_grad():
        for op in graph.operators:
            if op.target == UPDATE and update is None:
                continue
            missing = [graph.tensors[i].name for i in op.inputs if i not in known]
            if missing:
                raise GraphError(f"{op.name}: no value of {', '.join(missing)}")
            operands = [known[i] for i in op.inputs]
            results = _execute(op, operands, update)
            _check_results(graph, op, results)
            known.update((o, r) for o, r in zip(op.outputs, results) if r is not None)
    return known


def _execute(op: Operator, operands: list[Tensor], update: UpdateFunction | None) -> Any:
    if op.target == UPDATE:
        assert update is not None
        return update(op, operands)
    args = map_refs(op.args, lambda ref: operands[ref.position])
    kwargs = map_refs(op.kwargs, lambda ref: operands[ref.position])
    result = function_of(op.target)(*args, **kwargs)
    return result if isinstance(result, (tuple, list)) else (result,)


def function_of(target: str) -> Callable[..., Any]:
    """The function of an operator's target; views are `reshape`, for layouts do not matter."""
    namespace, name, overload = ("aten.reshape.default" if target == _VIEW else target).split(".")
    return getattr(getattr(getattr(torch.ops, namespace), name), overload)  # type: ignore[no-any-return]


_VIEW = "aten.view.default"


def _check_results(graph: Graph, op: Operator, results: Any) -> None:
    if len(results) != len(op.outputs):
        raise GraphError(f"{op.name}: {len(results)} results for {len(op.outputs)} outputs")
    for output, result in zip(op.outputs, results):
        expected = graph.tensors[output]
        if result is None:
            continue
        if tuple(result.shape) != expected.shape or result.dtype != expected.dtype:
            raise GraphError(
                f"{op.name}: {expected.name} should be {expected.dtype} {expected.shape}, "
                f"is {result.dtype} {tuple(result.shape)}"
            )

"""A graph executed whole: updates by a function, and errors that name the operator."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from superscaler.errors import GraphError
from superscaler.graph.evaluate import evaluate
from superscaler.graph.graph import Graph
from superscaler.graph.operator import Operator
from superscaler.trace import trace


def _graph() -> Graph:
    model = nn.Linear(3, 2, bias=False)
    return trace(
        lambda m, x: m(x).sum(), model, torch.ones(4, 3), lambda p: torch.optim.SGD(p, lr=0.5)
    )


def _values(graph: Graph) -> dict[int, Tensor]:
    return {graph.by_name["weight"].id: torch.ones(2, 3), graph.batch[0]: torch.ones(4, 3)}


def test_updates_are_done_by_the_function() -> None:
    graph = _graph()

    def update(op: Operator, operands: list[Tensor]) -> tuple[Tensor, ...]:
        weight, grad = operands
        return (weight - 0.5 * grad,)

    result = evaluate(graph, _values(graph), update)
    assert result[graph.loss].item() == 24
    assert torch.equal(result[graph.updates[0].new_param], torch.full((2, 3), -1.0))
    assert graph.updates[0].new_param not in evaluate(graph, _values(graph))


def test_a_missing_value_is_named() -> None:
    graph = _graph()
    values = _values(graph)
    del values[graph.batch[0]]
    with pytest.raises(GraphError, match="mm: no value of batch"):
        evaluate(graph, values)


@pytest.mark.parametrize("change", [{"shape": (5,)}, {"dtype": torch.int32}])
def test_a_wrong_result_is_named(change: dict[str, Any]) -> None:
    graph = _graph()
    tensors = list(graph.tensors)
    tensors[graph.loss] = replace(tensors[graph.loss], **change)
    wrong = replace(graph, tensors=tuple(tensors))
    with pytest.raises(GraphError, match=r"loss: loss should be .*, is torch\.float32"):
        evaluate(wrong, _values(graph))

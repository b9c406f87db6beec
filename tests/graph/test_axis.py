"""Axes of tensors: slots, dims and sizes; and the rule that every graph keeps."""

from __future__ import annotations

import pytest
from subjects import gpt, mlp

from superscaler.graph.axis import Axes, Axis
from superscaler.graph.graph import Graph
from superscaler.graph.text import to_text


def axes() -> Axes:
    """One tensor of shape (2 * 3, 5, 1)."""
    three = (Axis(0, "a", 2), Axis(1, "b", 3), Axis(2, "c", 5))
    return Axes(three, ((0, 1, 2),), ((2, 1, 0),), ())


def test_sizes() -> None:
    assert axes().sizes(0) == (2, 3, 5)


@pytest.mark.parametrize(("dim", "slots"), [(0, [0, 1]), (1, [2]), (2, [])])
def test_dim_slots(dim: int, slots: list[int]) -> None:
    assert list(axes().dim_slots(0, dim)) == slots


def test_dims_of() -> None:
    assert axes().dims_of(0, (2, 3, 5)) == ((2, 3), (5,), ())


@pytest.mark.parametrize("graph", [mlp().graph, gpt(tied=True).graph], ids=["mlp", "gpt"])
def test_graphs_are_consistent(graph: Graph) -> None:
    assert [t.id for t in graph.tensors] == list(range(len(graph.tensors)))
    assert len(graph.by_name) == len(graph.tensors)
    made = {t for t, _ in graph.producer.items()}
    seen = {t.id for t in graph.tensors} - made
    for op in graph.operators:
        assert seen.issuperset(op.inputs)
        seen.update(op.outputs)
    assert seen.issuperset(graph.results)
    for t, readers in graph.consumers.items():
        assert all(graph.operators[op].inputs[i] == t for op, i in readers)


def test_update_of() -> None:
    graph = mlp().graph
    for update in graph.updates:
        assert graph.update_of[update.param] == update.operator
        for _, before, after in update.states:
            assert graph.update_of[before] == update.operator
            assert graph.producer[after][0] == update.operator


def test_text_has_a_line_for_every_operator() -> None:
    lines = to_text(mlp().graph).splitlines()
    for op in mlp().graph.operators:
        assert sum(f"= {op.target}(" in line for line in lines) >= 1
    assert sum(" = aten" in line or " = superscaler" in line for line in lines) == len(
        mlp().graph.operators
    )

"""Axis inference: factors unify and refine; conflicts freeze; names come from what axes touch."""

from __future__ import annotations

from math import prod

import torch
from hypothesis import given
from hypothesis import strategies as st
from subjects import gpt, mlp
from torch import Tensor, nn

from superscaler.graph.axis import Axes
from superscaler.graph.graph import Graph
from superscaler.trace import trace
from superscaler.trace.axes import AxisClasses, infer_axes

FACTORS = st.lists(st.sampled_from([2, 3, 4, 6]), min_size=1, max_size=4)


@given(FACTORS, st.data())
def test_unify_makes_equal_leaves(sizes: list[int], data: st.DataObject) -> None:
    """Two ways to merge neighbours of one factor list always unify, and into the same leaves."""
    classes = AxisClasses()

    def merged() -> list[int]:
        found, at = [], 0
        while at < len(sizes):
            step = data.draw(st.integers(1, len(sizes) - at))
            found.append(classes.new(prod(sizes[at : at + step])))
            at += step
        return found

    left, right = merged(), merged()
    before = [classes.size[n] for n in left]
    assert classes.unify(left, right)
    assert classes.leaves(left) == classes.leaves(right)
    for node, size in zip(left, before):
        assert prod(classes.size[n] for n in classes.leaves([node])) == size


def test_a_view_refines() -> None:
    classes = AxisClasses()
    whole, heads, size = classes.new(32), classes.new(4), classes.new(8)
    assert classes.unify([whole], [heads, size])
    assert classes.leaves([whole]) == [heads, size]


def test_refining_shows_everywhere() -> None:
    classes = AxisClasses()
    a, b = classes.new(32), classes.new(32)
    assert classes.unify([a], [b])
    assert classes.unify([a], [classes.new(4), classes.new(8)])
    assert [classes.size[n] for n in classes.leaves([b])] == [4, 8]


def test_conflicts_do_not_unify() -> None:
    classes = AxisClasses()
    assert not classes.unify([classes.new(6)], [classes.new(4)])
    whole = classes.new(12)
    assert classes.unify([whole], [classes.new(4), classes.new(3)])
    assert not classes.unify([whole], [classes.new(3), classes.new(4)])


def sizes(axes: Axes, graph: Graph, name: str) -> list[tuple[int, ...]]:
    """The factor sizes of a tensor, dim by dim."""
    tensor = graph.by_name[name].id
    return list(axes.dims_of(tensor, axes.sizes(tensor)))


def test_every_tensor_is_the_product_of_its_axes() -> None:
    graph, axes = gpt().graph, gpt().axes
    for t in graph.tensors:
        found = axes.dims_of(t.id, axes.sizes(t.id))
        assert tuple(prod(dim) for dim in found) == t.shape


def test_iteration_axes_are_what_operands_have() -> None:
    graph, axes = gpt().graph, gpt().axes
    for op in graph.operators:
        own = axes.operators[op.id]
        operands = [*zip(op.inputs, own.inputs), *zip(op.outputs, own.outputs)]
        for tensor, slots in operands:
            if tensor >= 0:
                assert len(slots) == len(axes.slots[tensor])
                for axis, k in zip(axes.slots[tensor], slots):
                    assert k < 0 or own.iters[k].axis == axis


def test_heads_are_an_axis_of_the_weights() -> None:
    graph, axes = gpt().graph, gpt().axes
    assert sizes(axes, graph, "layers.0.attention.query.weight") == [(2, 8), (16,)]


def test_one_axis_runs_through_fc1_and_fc2() -> None:
    graph, axes = mlp().graph, mlp().axes
    fc1, fc2 = (graph.by_name[f"layers.0.{n}.weight"].id for n in ("fc1", "fc2"))
    assert axes.slots[fc1][0] == axes.slots[fc2][1]
    other = graph.by_name["layers.1.fc1.weight"].id
    assert axes.slots[fc1][0] != axes.slots[other][0]
    assert axes.slots[fc1][1] == axes.slots[other][1]  # the residual stream


def test_names() -> None:
    axes = mlp().axes
    assert axes.axes[axes.names["batch"]].size == 8
    assert all(axes.axes[i].name == name or i < len(axes.axes) for name, i in axes.names.items())


class Conflict(nn.Module):
    """The same dim is read as 3 x 4 and as 4 x 3: it has no common refinement."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(12))

    def forward(self, x: Tensor) -> Tensor:
        y = x * self.weight
        return y.view(-1, 3, 4).sum(-1).sum() + y.view(-1, 4, 3).cos().sum()


def test_a_conflict_freezes_where_it_appears() -> None:
    def step(model: nn.Module, batch: Tensor) -> Tensor:
        return model(batch)

    graph = trace(step, Conflict(), torch.ones(8, 12), lambda p: torch.optim.SGD(p, lr=0.1))
    axes = infer_axes(graph)
    views = [op for op in graph.operators if op.target == "aten.view.default"]
    assert views
    frozen = [it for op in views for it in axes.operators[op.id].iters if it.frozen]
    slots = [s for op in views for dims in axes.operators[op.id].outputs for s in dims]
    assert frozen or -1 in slots
    batch = axes.names["batch"]
    splittable = [it.axis for op in views for it in axes.operators[op.id].iters if not it.frozen]
    assert batch in splittable

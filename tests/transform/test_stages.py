"""Stages: where what is no part of a module's forward or backward runs."""

from __future__ import annotations

import pytest
import torch
from subjects import Subject, mlp

import superscaler as ss
from superscaler.trace.axes import infer_axes
from superscaler.transform.stages import assign_stages


def twice() -> Subject:
    """Calls the same module on the same input two times, and its head on their sum."""

    class Both(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Tanh())
            self.head = torch.nn.Linear(16, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.body(x) * self.body(x))

    torch.manual_seed(0)
    batch = {"x": torch.randn(8, 8, dtype=torch.float64)}
    work = ss.Workload(
        lambda m, b: m(b["x"]).pow(2).mean(),
        Both().double(),
        lambda p: torch.optim.SGD(p, lr=0.1),
        batch,
    )
    graph = ss.trace(work.step, work.model, work.batch, work.optimizer)
    return Subject(work, graph, infer_axes(graph))


PIPELINE = "hybrid(pp=2, microbatches=2)"


def test_gradients_are_clipped_where_they_are() -> None:
    """Only norms and the factor travel between stages."""
    toy = mlp(clip=1.0)
    graph, plan = toy.graph, ss.policies.parse_plan(PIPELINE)
    stage = assign_stages(graph, toy.axes, plan)
    assert {stage[u.operator] for u in graph.updates} == {0, 1}
    for update in graph.updates:
        clip = graph.operators[graph.producer[update.grad][0]]
        assert clip.name.endswith(".clip")
        assert stage[clip.id] == stage[update.operator]
    program = toy.compile(PIPELINE)
    assert toy.check(program.files).ok


def test_the_backward_of_calls_that_became_one_stays_in_their_stage() -> None:
    toy = twice()
    forward = {op.module: op for op in toy.graph.operators if op.target == "aten.tanh.default"}
    (back,) = [op for op in toy.graph.operators if op.target == "aten.tanh_backward.default"]
    assert back.forward == forward["body.1"].id
    plan = "hybrid(pp=2, microbatches=2)"
    stage = assign_stages(toy.graph, toy.axes, ss.policies.parse_plan(plan))
    assert stage[back.id] == stage[back.forward]


@pytest.mark.parametrize(
    "plan",
    [
        PIPELINE,
        "offload(hybrid(microbatches=2), activations='*')",
        f"offload({PIPELINE}, activations='body')",
        f"offload({PIPELINE}, activations='*', batch=True)",
    ],
)
def test_calls_that_became_one_train_as_two(plan: str) -> None:
    toy = twice()
    assert toy.check(toy.compile(plan).files).ok

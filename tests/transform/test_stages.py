"""Stages: where what is no part of a module's forward or backward runs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from subjects import Subject, mlp, subject

import superscaler as ss
from superscaler.graph.operator import Phase
from superscaler.trace.axes import infer_axes
from superscaler.transform.stages import assign_stages


def _subject(model: type[torch.nn.Module]) -> Subject:
    torch.manual_seed(0)
    batch = {"x": torch.randn(8, 8, dtype=torch.float64)}
    work = ss.Workload(
        lambda m, b: m(b["x"]).pow(2).mean(),
        model().double(),
        lambda p: torch.optim.SGD(p, lr=0.1),
        batch,
    )
    graph = ss.trace(work.step, work.model, work.batch, work.optimizer)
    return Subject(work, graph, infer_axes(graph))


def twice() -> Subject:
    """Calls the same module on the same input two times, and its head on what it makes of both."""

    class Both(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Tanh())
            self.head = torch.nn.Linear(16, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            once = self.body(x)
            return self.head(once.cos() * self.body(x))

    return _subject(Both)


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
    backward = [op for op in toy.graph.operators if op.target == "aten.tanh_backward.default"]
    assert [back.forward for back in backward] == 2 * [forward["body.1"].id]
    stage = assign_stages(toy.graph, toy.axes, ss.policies.parse_plan(PIPELINE))
    assert all(stage[back.id] == stage[back.forward] for back in backward)


class Turned(torch.nn.Module):
    """A product whose result is turned by cosines that all layers share, as rotary embeddings are;
    their form is made anew in each layer, where autograd has no node for it."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(8, 8)

    def forward(self, x: torch.Tensor, cosines: torch.Tensor) -> torch.Tensor:
        y = self.linear(x).view(-1, 2, 4).transpose(1, 2)
        cosines = cosines.unsqueeze(1).expand(4, 2)
        return (y * cosines).transpose(1, 2).reshape(-1, 8).tanh()


def turned() -> Subject:
    class Layers(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = torch.nn.ModuleList(Turned() for _ in range(4))
            self.register_buffer("cosines", torch.linspace(0.5, 1.0, 4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for layer in self.layers:
                x = layer(x, self.cosines)
            return x

    return _subject(Layers)


@pytest.mark.parametrize("model", [turned, lambda: subject("llama"), lambda: subject("mixtral")])
def test_what_layers_share_does_not_take_their_backward(model: Callable[[], Subject]) -> None:
    """All of a layer's backward is of its own forward, and on its stage."""
    toy = model()
    stage = assign_stages(toy.graph, toy.axes, ss.policies.parse_plan(PIPELINE))
    operators = toy.graph.operators
    pairs = [(op, operators[op.forward]) for op in operators if op.forward >= 0]
    backward = [(back, op) for back, op in pairs if back.phase is Phase.BACKWARD]
    assert backward
    for back, op in backward:
        assert (back.module, stage[back.id]) == (op.module, stage[op.id]), back.name


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

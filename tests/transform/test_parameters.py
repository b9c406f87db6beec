"""What depends on parameters alone runs once for all microbatches, recomputed or not."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from subjects import Subject, traced
from torch import Tensor, nn
from torch.nn.functional import linear

import superscaler as ss
from superscaler.graph.operator import AGAIN
from superscaler.simulate.simulation import RankClass
from superscaler.transform.parameters import of_parameters, once_a_step


class Scaled(nn.Module):
    """A layer that makes its weight of a direction and a size, as weight_norm does."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.direction = nn.Parameter(torch.randn(size, size))
        self.size = nn.Parameter(torch.ones(size, 1))

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.size * self.direction).tanh()


class Model(nn.Module):
    def __init__(self, size: int = 8, layers: int = 4) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(Scaled(size) for _ in range(layers)))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def step(model: nn.Module, batch: dict[str, Any]) -> Tensor:
    loss: Tensor = (model(batch["x"]) - batch["y"]).square().mean()
    return loss


@cache
def model() -> Subject:
    torch.manual_seed(0)
    batch = {"x": torch.randn(16, 8), "y": torch.randn(16, 8)}
    return traced(ss.Workload(step, Model(), torch.optim.AdamW, batch))


def clones(plan: str) -> list[str]:
    """The products of parameters alone that a compiled plan runs again."""
    graph = ss.compile(model().graph, plan, axes=model().axes).program.partition.graph
    alone = of_parameters(graph)
    return [op.name for op in graph.operators if AGAIN in op.name and op.id in alone]


def test_weights_that_are_made_of_parameters_are_found() -> None:
    graph, axes = model().graph, model().axes
    made = {graph.operators[op].name for op in once_a_step(graph, axes)}
    assert made == {f"layers.{i}.mul" for i in range(4)}
    views = of_parameters(graph) - once_a_step(graph, axes)
    assert {graph.operators[op].target for op in views} == {"aten.t.default"}


def test_they_run_again_where_the_step_is_one_microbatch() -> None:
    assert [name for name in clones("hybrid(recompute='layers.*')") if "mul" in name]


def test_they_do_not_where_they_run_once_for_several() -> None:
    plan = "hybrid(microbatches=4, recompute='layers.*')"
    assert not [name for name in clones(plan) if "mul" in name]


PLANS = [
    "hybrid(dp=2, zero=2, microbatches=4, recompute='layers.*')",
    "hybrid(dp=2, zero=3, microbatches=4, recompute='layers.*')",
    "hybrid(tp=2, microbatches=2, recompute='layers.{1-2}')",
    "hybrid(pp=2, dp=2, zero=1, microbatches=4, order='zb_h1', recompute='layers.*')",
    "coshard(hybrid(dp=2, zero=2, microbatches=2, recompute='layers.*'), parts=2)",
    "offload(hybrid(dp=2, microbatches=2, recompute='layers.*'), parameters='layers.*')",
]


@pytest.mark.parametrize("plan", PLANS)
def test_it_is_exact(plan: str) -> None:
    assert model().check(model().compile(plan).files).ok


def first(**more: object) -> RankClass:
    """Under mixed precision, with ZeRO 2 and several microbatches."""
    torch.manual_seed(0)
    workload = model().workload

    def mixed(model: nn.Module, batch: dict[str, Any]) -> Tensor:
        with torch.autocast("cpu", torch.float16):
            return step(model, batch)

    wide = Model(256).float()
    batch = {"x": torch.randn(16, 256), "y": torch.randn(16, 256)}
    workload = replace(workload, step=mixed, model=wide, batch=batch)
    graph = ss.trace(workload.step, workload.model, workload.batch, workload.optimizer)
    plan = ss.policies.hybrid(dp=2, zero=2, microbatches=4, **more)  # type: ignore[arg-type]
    return ss.compile(graph, plan, "v100-32g-8x2").simulate().classes[0]


def test_casts_are_gathered_once_for_forward_and_backward() -> None:
    kept, again = first(), first(recompute="layers.*")
    assert again.sent_bytes == kept.sent_bytes
    assert again.peak_bytes <= kept.peak_bytes

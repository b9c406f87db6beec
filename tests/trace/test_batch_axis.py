"""Steps that take the batch apart themselves: `batch` is the part, or the step is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from subjects import Subject, traced
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import superscaler as ss
from superscaler.errors import PlanError

Step = Callable[[nn.Module, dict[str, Tensor]], Any]


def slices(model: nn.Module, batch: dict[str, Tensor]) -> Any:
    parts = [slice(i * 4, (i + 1) * 4) for i in range(2)]
    return sum(cross_entropy(model(batch["x"][p]), batch["y"][p]) for p in parts)


def chunks(model: nn.Module, batch: dict[str, Tensor]) -> Any:
    parts = zip(batch["x"].chunk(2), batch["y"].chunk(2))
    return sum(cross_entropy(model(x), y) for x, y in parts)


def every_second(model: nn.Module, batch: dict[str, Tensor]) -> Any:
    parts = [slice(i, None, 2) for i in range(2)]
    return sum(cross_entropy(model(batch["x"][p]), batch["y"][p]) for p in parts)


def pairs_at_the_end(model: nn.Module, batch: dict[str, Tensor]) -> Any:
    out = model(batch["x"])
    left, right = out.chunk(2)
    return cross_entropy(out, batch["y"]) + (left * right).mean()


def unequal(model: nn.Module, batch: dict[str, Tensor]) -> Any:
    parts = [slice(0, 3), slice(3, 8)]
    return sum(cross_entropy(model(batch["x"][p]), batch["y"][p]) for p in parts)


def one_by_one(model: nn.Module, batch: dict[str, Tensor]) -> Any:
    return sum(cross_entropy(model(x[None]), y[None]) for x, y in zip(batch["x"], batch["y"]))


def subject_of(step: Step) -> Subject:
    model = nn.Sequential(nn.Linear(6, 16), nn.GELU(), nn.Linear(16, 10))
    batch = {"x": torch.randn(8, 6), "y": torch.randint(0, 10, (8,))}
    return traced(ss.Workload(step, model, lambda p: torch.optim.SGD(p, lr=0.1), batch))


@pytest.mark.parametrize("step", [slices, chunks, every_second, pairs_at_the_end])
def test_the_batch_axis_is_what_all_parts_have(step: Step) -> None:
    graph, axes = subject_of(step).graph, subject_of(step).axes
    assert axes.axes[axes.names["batch"]].size == 4
    products = [op for op in graph.operators if op.target == "aten.mm.default"]
    assert all(
        any(it.axis == axes.names["batch"] and not it.frozen for it in axes.operators[op.id].iters)
        for op in products
    )


@pytest.mark.parametrize(
    "plan",
    [
        "hybrid(dp=2, microbatches=2)",
        "hybrid(pp=2, microbatches=2)",
        "zero(dp=2, stage=1)",
        "hybrid(dp=2, zero=2, microbatches=2)",
        "zero(dp=2, stage=3)",
    ],
)
def test_steps_that_accumulate_gradients_are_exact(plan: str) -> None:
    subject = subject_of(slices)
    report = subject.check(subject.compile(plan).files)
    assert report.ok, report


@pytest.mark.parametrize("plan", ["data_parallel(dp=2)", "hybrid(microbatches=2)"])
@pytest.mark.parametrize("step", [unequal, one_by_one])
def test_parts_that_are_not_alike_are_refused(step: Step, plan: str) -> None:
    with pytest.raises(PlanError, match="takes parts of the batch that are not alike") as error:
        subject_of(step).compile(plan)
    assert "test_batch_axis.py:" in str(error.value)
    assert "let `microbatches` of the plan accumulate gradients" in str(error.value)


def test_parts_too_small_for_the_plan() -> None:
    with pytest.raises(PlanError, match=r"in fewer parts, or whole$"):
        subject_of(slices).compile("hybrid(dp=4, microbatches=2)")

"""What differs no further than rounding takes the untouched model is told apart from errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

import superscaler as ss
from superscaler.verify import Report, Verdict, expect
from superscaler.verify.compare import compare
from superscaler.verify.sensitivity import _as_rank, forgive_rounding
from superscaler.workload import Workload


def workload(steepness: float) -> Workload:
    """The mean of a linear layer, much amplified where it is steep."""

    def step(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.sin(steepness * model(batch["x"]).mean()) / steepness

    torch.manual_seed(0)
    return Workload(
        step=step,
        model=nn.Linear(16, 8).double(),
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1),
        batch={"x": torch.randn(64, 16, dtype=torch.float64)},
    )


STEEP, FLAT = workload(1e6), workload(1.0)


def verdict(made: Workload, off: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """Of a rank whose weight is off."""
    expected = expect(made)
    weight = off(expected.parameters["weight"])
    rank = _as_rank(replace(expected, parameters={**expected.parameters, "weight": weight}))
    judged = forgive_rounding(compare(expected, [rank]), made)
    return {(row.kind, row.name): row.verdict for row in judged.rows}["parameter", "weight"]


def moved(by: float) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda weight: weight + by * weight.abs().max()


def test_as_far_as_rounding_takes_it() -> None:
    assert verdict(STEEP, moved(2e-9)) is Verdict.SENSITIVE


def test_further_than_rounding_takes_it() -> None:
    assert verdict(STEEP, moved(5e-7)) is Verdict.DIFFERS


def test_an_error_of_a_model_that_rounding_does_not_move() -> None:
    assert verdict(FLAT, moved(2e-9)) is Verdict.DIFFERS


def test_what_is_far_off_is_not_looked_at() -> None:
    assert verdict(workload(1e8), moved(1e-5)) is Verdict.DIFFERS


def test_what_is_not_a_number_differs() -> None:
    assert verdict(STEEP, lambda weight: weight * float("nan")) is Verdict.DIFFERS


def sensitive(report: Report) -> list[str]:
    return [row.name for row in report.rows if row.verdict is Verdict.SENSITIVE]


def test_verify_tells_it_apart_and_says_so() -> None:
    report = ss.verify(STEEP, "hybrid(dp=2, microbatches=4)", processes=False)
    assert report.ok
    assert "weight" in sensitive(report)
    count = f"{len(sensitive(report))} of {len(report.rows)}"
    assert report.summary.startswith(f"equal but for rounding in {count} results: 2 ranks")
    assert "when its weights are moved by their last bit" in "\n".join(report.notes)


def test_verify_of_a_model_that_rounding_does_not_move() -> None:
    report = ss.verify(FLAT, "hybrid(dp=2, microbatches=4)", processes=False)
    assert report.ok
    assert not sensitive(report)
    assert report.largest_error < 1e-12

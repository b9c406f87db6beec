"""Parameter groups: a rank's parts are in the groups of the whole parameters."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import torch
from subjects import traced
from torch import nn

import superscaler as ss
from superscaler.runtime.groups import optimizer_of_parts, stand_in

Parameters = Iterable[nn.Parameter]
CPU = torch.device("cpu")


def by_size(parameters: Parameters) -> torch.optim.Optimizer:
    given = list(parameters)
    large = [p for p in given if p.numel() > 40]
    small = [p for p in given if p.numel() <= 40]
    return torch.optim.AdamW(
        [{"params": large, "weight_decay": 0.1}, {"params": small, "lr": 0.02}], lr=0.01
    )


def by_place(parameters: Parameters) -> torch.optim.Optimizer:
    given = list(parameters)
    first = {"params": given[:2], "lr": 0.05, "momentum": 0.9}
    return torch.optim.SGD([first, {"params": given[2:]}], lr=0.1)


def by_name(parameters: Parameters) -> torch.optim.Optimizer:
    named = list(zip([n for n, _ in net().named_parameters()], parameters))
    weights = [p for n, p in named if n.endswith("weight")]
    return torch.optim.AdamW(
        [
            {"params": weights, "weight_decay": 0.1},
            {"params": [p for n, p in named if n.endswith("bias")], "weight_decay": 0.0},
        ],
        lr=0.01,
    )


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 12), nn.GELU(), nn.Linear(12, 4), nn.Linear(4, 2))


@pytest.mark.parametrize("plan", ["zero(dp=2, stage=1)", "pipeline(pp=2, microbatches=2)"])
@pytest.mark.parametrize("optimizer", [by_size, by_place, by_name])
def test_groups_that_parts_do_not_show(optimizer: object, plan: str) -> None:
    subject = traced(
        ss.Workload(
            step=lambda model, batch: model(batch).square().mean(),
            model=net(),
            optimizer=optimizer,
            batch=torch.randn(4, 6),
        )
    )
    report = subject.check(subject.compile(plan).files)
    assert report.ok, report


class HalfUsed(nn.Module):
    """Its first layer is not used: groups by place count it, as plain PyTorch does."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Linear(4, 4)
        self.used = nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.used(x)


def test_groups_count_what_the_step_does_not_use() -> None:
    subject = traced(
        ss.Workload(
            step=lambda model, batch: model(batch).square().mean(),
            model=HalfUsed(),
            optimizer=by_place,
            batch=torch.randn(4, 6),
        )
    )
    assert subject.check(subject.compile("data_parallel(dp=2)").files).ok


def test_a_rank_has_all_groups() -> None:
    """Schedulers with a rule for each group fit every rank."""
    wholes = {name: stand_in(p.shape, p.dtype, CPU) for name, p in net().named_parameters()}
    bias = nn.Parameter(torch.zeros(12))
    made = optimizer_of_parts(by_name, [("0.bias", bias)], wholes)
    assert [group["weight_decay"] for group in made.param_groups] == [0.1, 0.0]
    assert [len(group["params"]) for group in made.param_groups] == [0, 1]
    scheduler = torch.optim.lr_scheduler.LambdaLR(made, [lambda n: 1.0, lambda n: 0.5**n])
    bias.grad = torch.ones(12)
    made.step()
    scheduler.step()
    assert [group["lr"] for group in made.param_groups] == [0.01, 0.005]


def test_a_parameter_that_is_one_number() -> None:
    assert stand_in((), torch.float64, CPU).shape == ()


def test_the_optimizer_made_last_is_the_one() -> None:
    made: list[torch.optim.Optimizer] = []

    def kept(parameters: Parameters) -> torch.optim.Optimizer:
        made.append(by_place(parameters))
        return made[-1]

    wholes = {"a": stand_in((4, 4), torch.float64, CPU), "b": stand_in((2,), torch.float64, CPU)}
    part = nn.Parameter(torch.zeros(2, 4))
    assert optimizer_of_parts(kept, [("a", part)], wholes) is made[-1]
    assert made[-1].param_groups[0]["params"] == [part]

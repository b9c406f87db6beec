"""Losses, decomposed so that any split of them is exact, agree with torch's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from compare import compare
from torch import Tensor, nn

CLASSES = 10
WEIGHT = torch.linspace(0.5, 1.5, CLASSES, dtype=torch.float64)


def _batch() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(CLASSES, (4, 6), generator=generator)
    labels[0, :2] = -100
    x = torch.randn(4, 6, 8, generator=generator, dtype=torch.float64)
    return {"x": x, "y": labels, "z": torch.rand(4, 6, CLASSES, generator=generator).double()}


def _model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, CLASSES)).double()


def _check(loss: Callable[[Tensor, dict[str, Tensor]], Any]) -> None:
    compare(lambda model, batch: loss(model(batch["x"]), batch), _model(), _batch())


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weight", [None, WEIGHT])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_cross_entropy(smoothing: float, weight: Tensor | None, reduction: str) -> None:
    def loss(out: Tensor, batch: dict[str, Tensor]) -> Tensor:
        rows = F.cross_entropy(
            out.transpose(1, 2),
            batch["y"],
            weight=weight,
            reduction=reduction,
            label_smoothing=smoothing,
        )
        return rows.square().mean() if reduction == "none" else rows

    _check(loss)


def _one_row(out: Tensor, batch: dict[str, Tensor]) -> Tensor:
    return F.cross_entropy(out[1, 0], batch["y"][1, 0])


def _probabilities(out: Tensor, batch: dict[str, Tensor]) -> Tensor:
    target = batch["z"] / batch["z"].sum(-1, keepdim=True)
    return F.cross_entropy(
        out.transpose(1, 2), target.transpose(1, 2), weight=WEIGHT, label_smoothing=0.1
    )


def _nll(out: Tensor, batch: dict[str, Tensor]) -> Tensor:
    return F.nll_loss(F.log_softmax(out, -1).transpose(1, 2), batch["y"], weight=WEIGHT)


def _kl(out: Tensor, batch: dict[str, Tensor]) -> Tensor:
    return F.kl_div(F.log_softmax(out, -1), batch["z"].softmax(-1), reduction="batchmean")


def _regressions(out: Tensor, batch: dict[str, Tensor]) -> Tensor:
    losses = (F.mse_loss, F.l1_loss, F.smooth_l1_loss, F.huber_loss, F.soft_margin_loss)
    return sum(loss(out, batch["z"]) for loss in losses)


def _binary(out: Tensor, batch: dict[str, Tensor]) -> Tensor:
    logits = F.binary_cross_entropy_with_logits(out, batch["z"], WEIGHT, pos_weight=WEIGHT)
    return logits + F.binary_cross_entropy(out.sigmoid(), batch["z"])


def _statistics(out: Tensor, batch: dict[str, Tensor]) -> Tensor:
    variance, mean = torch.var_mean(out, 0)
    return out.var(-1).mean() + out.std(0).sum() + out.norm() + (variance * mean).sum()


@pytest.mark.parametrize(
    "loss", [_one_row, _probabilities, _nll, _kl, _regressions, _binary, _statistics]
)
def test_other_losses(loss: Callable[..., Any]) -> None:
    _check(loss)


def test_cross_entropy_has_few_passes_over_the_logits() -> None:
    graph = compare(
        lambda model, batch: F.cross_entropy(model(batch["x"]).transpose(1, 2), batch["y"]),
        _model(),
        _batch(),
    )
    large = 4 * 6 * CLASSES
    passes = [
        op.target
        for op in graph.operators
        if not op.module and graph.tensors[op.outputs[0]].num_elements == large
        if "view" not in op.target and "transpose" not in op.target
    ]
    assert passes == [
        "aten.sub.Tensor",
        "aten.exp.default",
        "aten.eq.Tensor",
        "aten.mul.Tensor",
        "aten.mul.Tensor",
        "aten.sub.Tensor",
    ]


def test_no_operator_averages() -> None:
    """A mean of a part is not a part of the mean."""
    graph = compare(lambda model, batch: model(batch["x"]).mean(), _model(), _batch())
    assert not [op.target for op in graph.operators if "mean" in op.target]

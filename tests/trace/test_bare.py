"""`x.data` is read as what it is to gradients, and not set."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from compare import adamw, compare
from torch import Tensor, nn

from superscaler.errors import TraceError
from superscaler.trace import trace

Step = Callable[[nn.Linear, Tensor], Tensor]


def _of_a_parameter(model: nn.Linear, x: Tensor) -> Tensor:
    return (x @ model.weight.data + model(x)).square().sum()


def _of_a_value(model: nn.Linear, x: Tensor) -> Tensor:
    return (model(model(x).data) + model(x + 1)).square().sum()


def _changed_in_place(model: nn.Linear, x: Tensor) -> Tensor:
    hidden = model(x) * 2
    hidden.data.mul_(3)
    return model(hidden).square().sum()


@pytest.mark.parametrize("step", [_of_a_parameter, _of_a_value, _changed_in_place])
def test_no_gradient_goes_through_it(step: Step) -> None:
    torch.manual_seed(0)
    compare(step, nn.Linear(8, 8).double(), torch.randn(4, 8, dtype=torch.float64))


def _sets_a_parameter(model: nn.Linear, x: Tensor) -> Tensor:
    model.weight.data = model.weight * 0.9
    return model(x).sum()


def _decays_a_parameter(model: nn.Linear, x: Tensor) -> Tensor:
    model.weight.data.mul_(0.9)
    return model(x).sum()


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (_sets_a_parameter, r"test_bare.py:\d+, in _sets_a_parameter: the step sets the data of a"),
        (_decays_a_parameter, "the step changes parameter weight in place"),
    ],
)
def test_what_changes_parameters_is_refused(step: Step, message: str) -> None:
    with pytest.raises(TraceError, match=message):
        trace(step, nn.Linear(8, 8), torch.randn(4, 8), adamw)

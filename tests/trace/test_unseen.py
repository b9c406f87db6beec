"""What a capture would not see is refused: gradient hooks, draws of Python's generators."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy
import pytest
import torch
from compare import adamw, compare
from torch import Tensor, nn

import superscaler as ss
from superscaler.errors import TraceError
from superscaler.trace import trace


def _skips(model: nn.Module, x: Tensor) -> Tensor:
    return (model(x) if random.random() < 0.5 else model(x) * 2).sum()


def _mixes(model: nn.Module, x: Tensor) -> Tensor:
    return model(x * numpy.random.beta(1.0, 1.0)).sum()


def _halves_the_gradient(model: nn.Module, x: Tensor) -> Tensor:
    y = model(x)
    y.register_hook(lambda grad: grad / 2)
    return y.sum()


def _freezes_for_a_while(model: nn.Linear, x: Tensor) -> Tensor:
    model.requires_grad_(False)
    loss = model(x).sum()
    model.requires_grad_(True)
    return loss + model(x + 1).sum()


def _freezes_the_bias(model: nn.Linear, x: Tensor) -> Tensor:
    model.bias.requires_grad = False
    return model(x).sum()


def test_a_frozen_parameter_that_the_step_trains() -> None:
    model = nn.Linear(8, 8)
    model.bias.requires_grad = False

    def step(model: nn.Linear, x: Tensor) -> Tensor:
        return model.requires_grad_()(x).sum()

    with pytest.raises(TraceError, match=r"the step lets a parameter be trained .* decide that"):
        trace(step, model, torch.randn(4, 8), adamw)


def _keeps_what_is_trained(model: nn.Linear, x: Tensor) -> Tensor:
    """Its weights are as they were where the gradient must not reach them."""
    model.weight.requires_grad = True
    still = {name: p.detach() for name, p in model.requires_grad_().named_parameters()}
    return torch.func.functional_call(model, still, (model(x),)).square().sum()


def test_gradients_that_do_not_reach_parameters() -> None:
    compare(_keeps_what_is_trained, nn.Linear(8, 8).double(), torch.randn(4, 8).double())


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (_freezes_for_a_while, r"test_unseen.py:\d+, in .*: the step freezes a parameter \(req"),
        (_freezes_the_bias, "the step freezes a parameter .* decide that before the step"),
        (_skips, "the step draws from Python's random, whose numbers would be the same"),
        (_mixes, "the step draws from numpy.random, whose numbers would be the same"),
        (
            _halves_the_gradient,
            "the step calls register_hook on a tensor; hooks on gradients are not",
        ),
    ],
)
def test_steps(step: Callable[[Any, Any], Any], message: str) -> None:
    with pytest.raises(TraceError, match=message):
        trace(step, nn.Linear(8, 8), torch.randn(4, 8), adamw)


def _hook_the_module(model: nn.Module) -> None:
    model[1].register_full_backward_hook(lambda *_: None)  # type: ignore[operator]


def _hook_the_parameter(model: nn.Module) -> None:
    model[1].weight.register_hook(lambda grad: grad / 2)  # type: ignore[operator,union-attr]


@pytest.mark.parametrize(
    ("hook", "message"),
    [
        (_hook_the_module, "module 1 has a backward hook; hooks on gradients are not"),
        (_hook_the_parameter, "parameter 1.weight has a gradient hook; hooks on gradients are"),
    ],
)
def test_models(hook: Callable[[nn.Module], None], message: str) -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    hook(model)

    def step(model: nn.Module, x: Tensor) -> Tensor:
        return model(x).sum()

    with pytest.raises(TraceError, match=message):
        trace(step, model, torch.randn(4, 8), adamw)
    workload = ss.Workload(step=step, model=model, optimizer=adamw, batch=torch.randn(4, 8))
    with pytest.raises(TraceError, match=message):
        ss.verify(workload, "data_parallel(dp=2)", processes=False)

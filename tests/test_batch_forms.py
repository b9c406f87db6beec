"""Batches of several forms: each is compiled for once, all train the same weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from test_parallelize import adamw, decorated, make_batch, make_net
from torch import nn

import superscaler as ss
from superscaler.parallelize.step import MANY_FORMS
from superscaler.runtime import RankExecutor
from superscaler.runtime.failures import WeightsError
from superscaler.runtime.local import lone_rank


def test_batches_of_several_shapes(capsys: pytest.CaptureFixture[str]) -> None:
    compiled, eager = decorated("hybrid()"), decorated("data_parallel(dp=2)")
    models = make_net(), make_net()
    for seed, size in enumerate((8, 4, 8, 6, 4)):
        loss, metrics = compiled(models[0], make_batch(seed, size))
        other, others = eager(models[1], make_batch(seed, size))
        assert float(loss) == pytest.approx(float(other), rel=1e-12)
        assert torch.equal(metrics["hits"], others["hits"])
    assert capsys.readouterr().err.count("compiled for 1 ranks") == 3  # each shape once
    for name, value in eager.state_dict().items():
        assert torch.allclose(value, compiled.state_dict()[name], rtol=0, atol=1e-9), name


def test_a_batch_with_numbers_in_it() -> None:
    @ss.parallelize("hybrid()", adamw, cache=None)
    def step(model: nn.Module, batch: Any) -> torch.Tensor:
        x, scale = batch if isinstance(batch, tuple) else (batch, 1.0)
        return scale * model(x).square().mean()

    model, x = nn.Linear(4, 4), torch.ones(2, 4)
    losses = [float(step(model, batch)) for batch in (x, (x, 0.0), (x, 2.0), (x, 0.0))]
    assert losses[0] > 0
    assert losses[1] == losses[3] == 0  # not those of an earlier batch
    assert losses[2] > losses[0]


def test_too_many_forms_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    step, model = decorated(), make_net()
    for size in range(2, 2 + MANY_FORMS):
        step(model, make_batch(size=size))
    assert capsys.readouterr().err.count(f"{MANY_FORMS} forms of batches were compiled for") == 1


def test_a_shape_that_places_the_parameters_otherwise() -> None:
    step, model = decorated(), make_net()
    step(model, make_batch())
    assert isinstance(step._executor, RankExecutor)
    program = step._executor.program
    moved = replace(program.parameters[0], memory="host")
    other = replace(program, parameters=(moved, *program.parameters[1:]))
    with pytest.raises(WeightsError, match="for batches of this shape places them otherwise"):
        RankExecutor(other, lone_rank(), trained_by=step._executor)

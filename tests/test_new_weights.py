"""Weights of the model that change between steps: by another decorated step, or by the user."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from test_parallelize import decorated, make_batch, make_net, numbers, run

from superscaler.errors import ParallelizeError

SCRIPT = """
import os, sys
sys.path.insert(0, {tests!r})
import torch
from test_parallelize import adamw, loss_and_accuracy, make_batch, make_net
import superscaler as ss

rank = int(os.environ.get("RANK", "0"))
plan, what = sys.argv[1:3]
out = open(f"out.{{rank}}", "w")
step, other = (ss.parallelize(plan, adamw, timeout=10.0)(loss_and_accuracy) for _ in range(2))
model = make_net()
for number in range(3):
    for each in (step, other):
        print(f"{{each(model, make_batch(number))[0]:.9f}}", file=out, flush=True)
        each.sync(model)
if what == "unlike":
    with torch.no_grad():
        model.fc1.weight.mul_(1 + rank)
    step(model, make_batch(3))
"""
PLAN = "zero(dp=2, stage=3)"


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT.format(tests=str(Path(__file__).parent)))
    return path


def test_weights_that_are_changed_after_sync_are_taken_over(tmp_path: Path) -> None:
    step, eager = decorated(), decorated("data_parallel(dp=2)")  # in one process: plain PyTorch
    model, other = make_net(), make_net()
    for seed in range(3):
        found, _ = step(model, make_batch(seed))
        expected, _ = eager(other, make_batch(seed))
        assert float(found) == pytest.approx(float(expected), rel=1e-12)
        step.sync(model)
        with torch.no_grad():
            model.fc1.weight.mul_(0.5)
            other.fc1.weight.mul_(0.5)
    step.save(tmp_path)
    step.sync(model)
    step.load(tmp_path)
    with torch.no_grad():
        model.fc1.weight.mul_(0.5)
    with pytest.raises(ParallelizeError, match="weights were changed, but"):
        step(model, make_batch(2))


@pytest.mark.dist
def test_two_steps_take_turns_under_torchrun(script: Path) -> None:
    found, expected = (numbers(script, n, PLAN, "turns")[0] for n in (2, 1))
    assert len(expected) == 6
    assert list(map(float, found)) == pytest.approx(list(map(float, expected)), rel=1e-8)


@pytest.mark.dist
def test_weights_that_are_changed_on_each_rank_differently(script: Path) -> None:
    done = run(script, 2, PLAN, "unlike")
    assert done.returncode == 1
    assert "rank 1 has another model than rank 0" in done.stderr
    assert "the same model: change it alike on all of them" in done.stderr

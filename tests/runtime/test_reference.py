"""The reference's random numbers: ours inside, torch's outside, repeated by checkpointing."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from superscaler.runtime import kernels
from superscaler.runtime.reference import reference_random, train_reference


def test_calls_that_draw_are_numbered_in_order() -> None:
    x = torch.ones(4, 8)
    with reference_random(seed=7, step=2):
        first = F.dropout(x, 0.5)
        F.dropout(x, 0.0)
        F.dropout(x, 0.5, training=False)
        second = nn.Dropout(0.5)(x)
        third = torch.rand(4, 8)
    kernels.set_random(7, 2)
    assert torch.equal(first, torch.ops.superscaler.dropout(x, 0.5, 0, []))
    assert torch.equal(second, torch.ops.superscaler.dropout(x, 0.5, 1, []))
    assert torch.equal(third, torch.ops.superscaler.uniform([4, 8], 2, []))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("fails", [False, True])
def test_torch_is_as_before_afterwards(fails: bool) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3), F.dropout(torch.ones(8), 0.5)
    torch.manual_seed(5)
    try:
        with reference_random(0, 0):
            torch.rand(2)
            assert not fails
    except AssertionError:
        assert fails
    assert torch.equal(torch.rand(3), expected[0])
    assert torch.equal(F.dropout(torch.ones(8), 0.5), expected[1])


def test_checkpointing_repeats_the_draws() -> None:
    x = torch.ones(4, 8, requires_grad=True)
    with reference_random(0, 0):
        y = checkpoint(lambda a: F.dropout(a, 0.5) ** 2, x, use_reentrant=False)
        z = F.dropout(x, 0.5)
        (y.sum() + z.sum()).backward()
    kernels.set_random(0, 0)
    mask = torch.ops.superscaler.dropout(torch.ones(4, 8), 0.5, 0, [])
    after = torch.ops.superscaler.dropout(torch.ones(4, 8), 0.5, 1, [])
    assert x.grad is not None
    assert torch.allclose(x.grad, 2 * mask * mask + after)


def test_training_reports_every_result() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    model[0].bias.requires_grad_(False)
    batch = torch.randn(6, 4)
    result = train_reference(
        lambda m, x: (m(x).square().mean(), {"largest": m[0](x).amax()}),
        model,
        lambda p: torch.optim.Adam(p, lr=0.1),
        lambda number: batch + number,
        steps=3,
        clip_grad_norm=0.1,
    )
    assert len(result.losses) == 3
    assert list(result.metrics) == ["largest"]
    assert set(result.grads) == {"0.weight", "1.weight", "1.bias"}
    assert set(result.states["0.weight"]) == {"exp_avg", "exp_avg_sq"}
    assert result.buffers["1.num_batches_tracked"].item() == 3
    assert result.grad_norm is not None
    total = sum(g.square().sum() for g in result.grads.values())
    assert total.sqrt().item() <= 0.1 + 1e-6

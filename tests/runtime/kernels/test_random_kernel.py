"""Random numbers: those of a part are those of the whole, and look random."""

from math import sqrt

import pytest
import torch

from superscaler.runtime.kernels import set_random

ops = torch.ops.superscaler


@pytest.fixture(autouse=True)
def seed():
    set_random(3, 5)
    yield
    set_random(0, 0)


def uniform(*shape, op_id=1, index=(), dtype=torch.float64):
    return ops.uniform(list(shape), op_id, list(index), dtype=dtype)


def test_same_call_draws_the_same_numbers():
    assert torch.equal(uniform(4, 6), uniform(4, 6))


@pytest.mark.parametrize("seed_and_step", [(3, 6), (4, 5), (5, 3)])
def test_other_seed_or_step_draws_other_numbers(seed_and_step):
    before = uniform(40, 60)
    set_random(*seed_and_step)
    assert (uniform(40, 60) == before).sum() == 0


def test_other_operator_draws_other_numbers():
    assert (uniform(40, 60) == uniform(40, 60, op_id=2)).sum() == 0


def test_part_draws_the_numbers_of_the_whole():
    whole = uniform(4, 12, 6)
    # dim 1 is 3 x 4, of which the part has 1:3 and 2:4
    part = uniform(2, 4, 6, index=[1, 4, 2, 2, 2, 3, 1, 2, 4, 2, 2, 1, 6, 0, 6])
    assert torch.equal(part, whole.view(4, 3, 4, 6)[2:, 1:, 2:].reshape(2, 4, 6))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_uniform_is_in_its_range(dtype):
    numbers = uniform(300, 300, dtype=dtype)
    assert numbers.dtype == dtype
    assert numbers.min() >= 0
    assert numbers.max() < 1


def test_uniform_is_uniform():
    numbers = uniform(1000, 1000)
    counts = torch.histc(numbers, 100, 0, 1)
    assert abs(numbers.mean() - 0.5) * sqrt(12e6) < 4
    assert ((counts - 1e4) ** 2 / 1e4).sum() < 99 + 4 * sqrt(2 * 99)


@pytest.mark.parametrize("distance", [1, 2, 3, 16, 64])
@pytest.mark.parametrize("dim", [0, 1])
def test_neighbours_are_independent(dim, distance):
    cells = (uniform(1000, 1000) * 16).long()
    first = cells.narrow(dim, 0, 1000 - distance)
    second = cells.narrow(dim, distance, 1000 - distance)
    counts = torch.bincount((first * 16 + second).reshape(-1), minlength=256)
    mean = first.numel() / 256
    assert ((counts - mean) ** 2 / mean).sum() < 255 + 4.5 * sqrt(2 * 255)


@pytest.mark.parametrize("shape", [(), (1,), (7,), (0, 3), (5, 1), (2, 3, 4)])
def test_dropout_of_any_shape(shape):
    x = torch.ones(shape, dtype=torch.float64)
    kept = ops.dropout(x, 0.25, 1, [])
    assert kept.shape == x.shape
    assert set(kept.reshape(-1).tolist()) <= {0.0, 1 / 0.75}


def test_dropout_drops_its_share():
    kept = ops.dropout(torch.ones(1000, 1000), 0.1, 1, [])
    assert abs((kept == 0).double().mean() - 0.1) < 4 * sqrt(0.09e-6)
    assert not ops.dropout(torch.ones(3, 4), 1.0, 1, []).any()
    assert ops.dropout(torch.ones(3, 4), 0.0, 1, []).all()


def test_gradient_of_dropout_has_the_same_mask():
    x = torch.randn(20, 30, dtype=torch.float64, requires_grad=True)
    kept = ops.dropout(x, 0.4, 1, [])
    kept.sum().backward()
    assert torch.equal(x.grad != 0, kept != 0)

"""Random operators of ours have the distributions of torch's."""

from __future__ import annotations

from itertools import count

import pytest
import torch

from superscaler.runtime import kernels
from superscaler.runtime.randomness import RANDOM

aten = torch.ops.aten


@pytest.fixture(autouse=True)
def _seeded() -> None:
    kernels.set_random(0, 0)


@pytest.mark.parametrize("rate", [0.5, 4.0])
def test_exponential(rate: float) -> None:
    drawn = RANDOM[aten.exponential_.default](count().__next__, torch.empty(100_000), rate)
    assert drawn.mean() == pytest.approx(1 / rate, rel=0.02)
    assert drawn.std() == pytest.approx(1 / rate, rel=0.02)
    assert (drawn > 1 / rate).double().mean() == pytest.approx(0.3679, abs=0.01)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_exponential_has_a_logarithm(dtype: torch.dtype) -> None:
    drawn = RANDOM[aten.exponential_.default](
        count().__next__, torch.empty(1_000_000, dtype=dtype), 1.0
    )
    assert drawn.dtype == dtype
    assert drawn.log().isfinite().all()


def test_permutations() -> None:
    ids = count().__next__
    found = [RANDOM[aten.randperm.default](ids, 6) for _ in range(600)]
    assert all(sorted(p.tolist()) == list(range(6)) for p in found)
    assert found[0].dtype == torch.int64
    first = torch.stack(found)[:, 0].bincount(minlength=6)
    assert first.min() > 60  # each about 100 times


def test_complex_numbers_have_the_variance_of_real_ones() -> None:
    ids = count().__next__
    drawn = RANDOM[aten.randn.default](ids, [20_000], dtype=torch.complex64)
    assert drawn.dtype == torch.complex64
    for part in (drawn.real, drawn.imag):
        assert abs(part.mean()) < 0.02
        assert part.var() == pytest.approx(0.5, abs=0.02)
    assert abs((drawn.real * drawn.imag).mean()) < 0.02
    uniform = RANDOM[aten.rand.default](ids, [20_000], dtype=torch.complex64)
    assert not torch.equal(uniform.real, uniform.imag)
    assert 0 <= uniform.imag.min() < 0.01 < 0.99 < uniform.imag.max() < 1

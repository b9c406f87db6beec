"""The times of a rank's kernels, from steps that were timed and ones that were not."""

from __future__ import annotations

import pytest

import superscaler as ss
from superscaler.cluster.operators import OperatorWork
from superscaler.measure.rank import RankMeter, kernel_times
from tests.subjects import subject

PRODUCT = OperatorWork("aten.mm.default", "float32", 8.0, 8.0, ((2, 2),))
SUM = OperatorWork("aten.add.Tensor", "float32", 2.0, 8.0, ((2, 2),))


def test_kernels_take_the_time_of_the_whole_step() -> None:
    """Mean of a step's calls, median of steps; what passes between kernels is spread evenly."""
    steps = [
        {PRODUCT: [10.0, 20.0], SUM: [3.0]},
        {PRODUCT: [90.0, 90.0], SUM: [3.0]},  # held up
        {PRODUCT: [20.0, 10.0], SUM: [6.0]},
    ]
    found = {t.work: t.us for t in kernel_times(steps, [45.0, 39.0, 500.0])}
    # The median step took 45 us, its kernels 36: 3 us for each of the three.
    assert found == {PRODUCT: pytest.approx(15 + 3), SUM: pytest.approx(3 + 3)}


def test_timing_never_makes_kernels_faster() -> None:
    assert kernel_times([{SUM: [3.0]}], [1.0])[0].us == 3.0


def test_nothing_ran() -> None:
    assert kernel_times([], []) == kernel_times([{}], [5.0]) == ()


def test_a_rank_alone_has_the_kernels_of_its_own_shapes() -> None:
    made = subject("mlp")
    program = ss.compile(made.graph, "megatron(tp=2)", axes=made.axes)
    work = made.workload
    state = {n: p.detach() for n, p in work.model.named_parameters()}
    meter = RankMeter(program.files, 1, state, work.optimizer)
    for _ in range(2):
        meter.step(work.batch)
    assert all(t.us > 0 for t in meter.operators)
    products = [t.work.shapes for t in meter.operators if t.work.target == "aten.mm.default"]
    assert ((8, 16), (16, 32)) in products  # half of the 64 hidden features
    assert not any(64 in shape for shapes in products for shape in shapes)

"""Placement: cuts and devices found with the order; what cannot be placed says why."""

from itertools import pairwise

import pytest

from superscaler.errors import ScheduleError
from superscaler.schedule.check import check
from superscaler.schedule.memory import peaks
from superscaler.schedule.orders import ORDERS
from superscaler.schedule.placement import (
    Cut,
    Job,
    LayerCost,
    balanced_cuts,
    even_cuts,
    place,
    placement_problem,
)
from superscaler.schedule.placement.moves import moves
from superscaler.schedule.portfolio import apply_order

LAYER = LayerCost(50, 55, 40, activation=2, kept=2)
END = LayerCost(120, 132, 96)


def heavy_ends(per_device: int, devices: int) -> tuple[LayerCost, ...]:
    return (END, *[LAYER] * (per_device * devices), END)


def test_balanced_cuts_are_the_best_there_are() -> None:
    layers = heavy_ends(2, 3)
    found = balanced_cuts(layers, 3)

    def longest(cuts: tuple[int, ...]) -> int:
        return max(sum(x.ticks for x in layers[a:b]) for a, b in pairwise((*cuts, len(layers))))

    every = [(0, a, b) for a in range(1, 7) for b in range(a + 1, 8)]
    assert longest(found) == min(longest(c) for c in every)
    assert longest(found) < longest(even_cuts(len(layers), 3))


def test_heavy_ends_beat_even_cuts_of_zero_bubble_orders() -> None:
    """The issue's claim in small: one parameter copy, the same memory."""
    layers = heavy_ends(2, 4)
    job = Job(layers, 4, 8, memory=16, latency=5)
    found = place(layers, 4, 8, memory=16, latency=5, time_limit_s=6)
    others = []
    for name, cuts, devices in (
        ("zb_h1", (0, 3, 5, 7), (0, 1, 2, 3)),
        ("zb_v", (0, 2, 3, 4, 5, 6, 7, 8), (0, 1, 2, 3, 3, 2, 1, 0)),
    ):
        problem = placement_problem(job, Cut(cuts, devices))
        others.append(apply_order(problem, ORDERS[name](devices, 8)).length)
    assert found.schedule.length <= 0.92 * min(others)
    assert check(found.problem, found.schedule.start) == []
    assert max(peaks(found.problem, found.schedule.start)) <= 16
    assert len(set(found.devices)) == 4
    assert found.cuts[0] == 0


def test_a_placement_has_every_layer_once() -> None:
    layers = tuple(LayerCost(10 + i, 11 + i, 9, 1, 1, resident=5) for i in range(9))
    found = place(layers, 3, 4, memory=40, kinds=("free",), time_limit_s=2)
    one = [w for w in found.problem.works if w.microbatch == 0]
    assert sum(w.duration for w in one) == sum(layer.ticks for layer in layers)
    assert sum(m.resident for m in found.problem.memories) == 45
    assert all(m.capacity == 40 for m in found.problem.memories)


def test_kinds() -> None:
    layers = (LAYER,) * 8
    for kind, devices in (("linear", (0, 1)), ("v", (0, 1, 1, 0)), ("looped", (0, 1, 0, 1))):
        found = place(layers, 2, 4, kinds=(kind,), time_limit_s=1)
        assert (found.kind, found.devices) == (kind, devices)


def test_moves_leave_no_stage_and_no_device_empty() -> None:
    job = Job((LAYER,) * 5, 2, 2)
    cut = Cut((0, 1, 4), (0, 1, 0))
    found = list(moves(job, cut, 2, is_free=True))
    assert found
    assert all(min(c.sizes(5)) > 0 and set(c.devices) == {0, 1} for c in found)
    assert all(c.devices == cut.devices for c in moves(job, cut, 2, is_free=False))


def test_an_unknown_kind() -> None:
    with pytest.raises(ScheduleError, match="kind of placement 'w': expected some of linear, v"):
        place((LAYER,) * 4, 2, 2, kinds=("w",))


def test_fewer_layers_than_devices() -> None:
    with pytest.raises(ScheduleError, match="2 layers cannot fill 4 devices; use at most 2"):
        place((LAYER,) * 2, 4, 2)


def test_too_few_stages_for_the_kind() -> None:
    with pytest.raises(ScheduleError, match="stages_per_device 1 leaves no placement of kind v"):
        place((LAYER,) * 4, 2, 2, kinds=("v",), stages_per_device=1)


def test_memory_of_other_devices() -> None:
    with pytest.raises(ScheduleError, match="memory of 3 devices for 2; give one number"):
        place((LAYER,) * 4, 2, 2, memory=(9, 9, 9))


def test_a_stage_without_layers() -> None:
    with pytest.raises(ScheduleError, match=r"cuts \[0, 2, 2\] of 4 layers: a stage is empty"):
        placement_problem(Job((LAYER,) * 4, 3, 2), Cut((0, 2, 2), (0, 1, 2)))


def test_what_fits_nowhere_says_by_how_much() -> None:
    with pytest.raises(ScheduleError) as caught:
        place((LAYER,) * 4, 2, 2, memory=3, kinds=("linear",), time_limit_s=2)
    text = str(caught.value)
    assert (
        "no placement of kind linear fits: device memory of device 0 cannot hold the step" in text
    )
    assert "1 more than its 3" in text

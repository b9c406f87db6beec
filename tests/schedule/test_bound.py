"""Bounds: reference values, and never above what can be reached."""

import random

import pytest

from superscaler.errors import ScheduleError
from superscaler.schedule.bound import lower_bound
from superscaler.schedule.memory import fits
from superscaler.schedule.pipeline import Placement, StageCosts, pipeline_problem
from superscaler.schedule.portfolio import portfolio
from superscaler.schedule.problem import Problem
from superscaler.schedule.replay import length

FORMS = (Placement.linear, Placement.v, Placement.looped, Placement.bidirectional)


@pytest.mark.parametrize(
    ("devices", "microbatches", "passes", "latency", "expected"),
    [
        (4, 8, (10, 10, 10), 0, 510),  # 25.5 of 20 ticks
        (8, 16, (10, 10, 10), 0, 1030),
        (4, 8, (10, 11, 8), 1, 506),  # 25.3: the last device fills its memory and waits
        (8, 16, (10, 11, 8), 1, 1026),
    ],
)
def test_reference_bounds_of_v(
    devices: int, microbatches: int, passes: tuple[int, int, int], latency: int, expected: int
) -> None:
    costs = StageCosts.uniform(2 * devices, passes, latency=latency)
    placement = Placement.v(devices, microbatches)
    assert lower_bound(pipeline_problem(costs, placement, capacity=2 * devices)) == expected


def test_bytes_times_ticks_are_limited() -> None:
    costs = StageCosts.uniform(6, (2, 3, 1))
    short, ample = (
        lower_bound(pipeline_problem(costs, Placement.v(3, 4), capacity=c)) for c in (2, 24)
    )
    assert (short, ample) == (78, 52)  # the optimum with 2 is 97


def drawn(rng: random.Random) -> Problem:
    """A small pipeline with costs of its own in every stage, and memory that is nearly short."""
    placement = rng.choice(FORMS)(rng.choice((2, 3)), rng.choice((2, 3, 4)))
    stages = range(placement.num_stages)
    forward, backward, weight = (tuple(rng.randint(1, 5) for _ in stages) for _ in range(3))
    held = tuple(rng.randint(1, 4) for _ in stages)
    kept = tuple(rng.randint(0, a) for a in held)
    needed = (sum(held[s] for s in placement.stages_on(d)) for d in range(placement.num_devices))
    costs = StageCosts(forward, backward, weight, held, kept, rng.randint(0, 2))
    return pipeline_problem(costs, placement, capacity=max(needed) + rng.randint(0, 6))


@pytest.mark.parametrize("objective", ["makespan", "span"])
def test_nothing_that_fits_is_below_the_bound(objective: str) -> None:
    rng = random.Random(3)
    for _ in range(40):
        problem = drawn(rng)
        bound = lower_bound(problem, objective)
        found = [s.length for s in portfolio(problem, objective) if fits(problem, s.start)]
        assert not found or bound <= min(found)


def test_an_unknown_objective_of_a_length() -> None:
    problem = drawn(random.Random(0))
    with pytest.raises(ScheduleError, match="unknown objective 'cost'; use one of makespan, span"):
        length(problem, [0] * len(problem.works), "cost")

"""Synthetic pipelines: placements, holds, and what is refused."""

import pytest

from superscaler.errors import ScheduleError
from superscaler.schedule.memory import peaks
from superscaler.schedule.pipeline import Pipeline, Placement, StageCosts, pipeline_problem
from superscaler.schedule.replay import replay


@pytest.mark.parametrize(
    ("placement", "form", "chains", "copies"),
    [
        (Placement.linear(3, 2), "linear", (0, 0), 1),
        (Placement.v(2, 2), "v", (0, 0), 1),
        (Placement.looped(2, 2, 3), "looped", (0, 0), 1),
        (Placement.bidirectional(2, 3), "bidirectional", (0, 1, 0), 2),
        (Placement.of_stages([0, 0, 1], 1), "free", (0,), 1),
    ],
)
def test_forms(placement: Placement, form: str, chains: tuple[int, ...], copies: int) -> None:
    assert (placement.form, placement.chains, placement.num_copies) == (form, chains, copies)


def test_what_w_reads_outlives_b() -> None:
    costs = StageCosts((1,), (1,), (1,), (5,), (2,))
    problem = pipeline_problem(costs, Placement.linear(1, 2), capacity=9)
    number = problem.number
    order = [number[n] for n in ("F0.0", "B0.0", "F0.1", "B0.1", "W0.0", "W0.1")]
    assert peaks(problem, replay(problem, [order])) == (7,)


def test_fused_passes_on_the_gradient_at_their_end() -> None:
    costs = StageCosts.uniform(2, (1, 1, 1), latency=1)
    fused = pipeline_problem(costs, Placement.linear(2, 1), is_fused=True)
    assert [w.name for w in fused.works] == ["F0.0", "BW0.0", "F1.0", "BW1.0"]
    assert replay(fused, [None, None]) == (0, 6, 2, 3)


def test_chains_are_named() -> None:
    problem = pipeline_problem(StageCosts.uniform(2), Placement.bidirectional(2, 2))
    assert "F0.1'1" in problem.number
    assert problem.works[problem.number["F0.1'1"]].lanes == (1,)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Placement(()), "needs a stage and a microbatch at least"),
        (lambda: Placement(((0,), (0, 1))), r"one device per microbatch; found \[1, 2\]"),
        (lambda: StageCosts((1,), (1, 2), (1,), (1,), (1,)), "found .* numbers"),
        (lambda: StageCosts((1,), (1,), (1,), (1,), (2,)), "W keeps 2 bytes of 1 bytes"),
        (
            lambda: Pipeline(Placement.linear(2, 1), StageCosts.uniform(3)),
            "costs of 3 stages for a placement of 2",
        ),
        (
            lambda: pipeline_problem(
                StageCosts.uniform(2), Placement.linear(2, 1), capacity=(1, 2, 3)
            ),
            "capacities of 3 devices for a placement on 2",
        ),
    ],
)
def test_what_is_refused(make: object, message: str) -> None:
    with pytest.raises(ScheduleError, match=message):
        make()  # type: ignore[operator]

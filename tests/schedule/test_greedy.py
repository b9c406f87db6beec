"""Greedy schedules: what is asked for, and of what."""

from fractions import Fraction

import pytest
from pipelines import uniform

from superscaler.schedule import greedy as module
from superscaler.schedule.greedy import Rule, greedy
from superscaler.schedule.pipeline import Placement, StageCosts, pipeline_problem
from superscaler.schedule.problem import Edge, Hold, Kind, Lane, Memory, Problem, Work


def test_questions_grow_with_the_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of microbatches that wait for memory only the next is asked about."""
    asked = 0
    may = module._Run._may

    def counted(self: module._Run, w: int, now: int, coming: dict[int, int]) -> bool:
        nonlocal asked
        asked += 1
        return may(self, w, now, coming)

    monkeypatch.setattr(module._Run, "_may", counted)
    shares = []
    for microbatches in (16, 128):
        problem, asked = uniform(4, microbatches, capacity=2), 0
        assert greedy(problem, Rule()) is not None
        shares.append(asked / len(problem.works))
    assert shares[1] < 1.2 * shares[0]


def test_what_is_held_already_does_not_wait_for_memory() -> None:
    """F0.2 may begin where F0.1 may not: F0.0 has begun to hold what both need."""
    names = ("F0.0", "F0.1", "F0.2", "B0.0", "B0.1")
    kinds = (Kind.FORWARD, Kind.FORWARD, Kind.FORWARD, Kind.BACKWARD, Kind.BACKWARD)
    works = tuple(Work(name, kind, 0, int(name[-1]), (0,), 5) for name, kind in zip(names, kinds))
    problem = Problem(
        (Lane((0,)),),
        works,
        (Edge(0, 3), Edge(2, 3), Edge(1, 4)),
        (Memory((0,), 1),),
        (Hold(0, 1, (0, 2), (3,)), Hold(0, 1, (1,), (4,))),
    )
    assert greedy(problem, Rule(ahead=None)) == (0, 15, 5, 10, 20)


@pytest.mark.parametrize(
    "rule", [Rule(), Rule(Fraction(1, 2)), Rule(Fraction(1, 2), patience=Fraction(1))]
)
@pytest.mark.parametrize("per_device", [1, 2])
def test_the_same_as_when_all_are_asked_about(
    rule: Rule, per_device: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one stage or two on a lane, with and without patience."""
    problem = uniform(4, 12, latency=1, per_device=per_device, capacity=16)
    assert greedy(problem, rule) == asking_about_all(problem, rule, monkeypatch)


def test_one_stage_may_where_another_of_its_lane_may_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their quotas differ, and what they hold does not."""
    costs = StageCosts(
        forward=(8, 5, 6, 2, 6, 7),
        backward=(4, 2, 1, 8, 2, 6),
        weight=(8, 4, 2, 9, 1, 9),
        activation=(1, 2, 2, 1, 2, 1),
        kept=(1, 2, 1, 1, 2, 1),
        latency=1,
    )
    problem = pipeline_problem(costs, Placement.looped(3, 6), capacity=17)
    rule = Rule(patience=Fraction(1, 2), most=5)
    assert greedy(problem, rule) == asking_about_all(problem, rule, monkeypatch)


def asking_about_all(
    problem: Problem, rule: Rule, monkeypatch: pytest.MonkeyPatch
) -> tuple[int, ...]:
    monkeypatch.setattr(module._Run, "_alike", lambda run: list(range(len(problem.works))))
    found = greedy(problem, rule)
    monkeypatch.undo()
    assert found is not None
    return found

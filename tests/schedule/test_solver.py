"""The solver: optima, never worse than known orders, memory, what it says when time runs out."""

from dataclasses import replace

import pytest
from pipelines import pipeline, uniform

from superscaler.errors import ScheduleError
from superscaler.schedule.bound import lower_bound
from superscaler.schedule.check import check
from superscaler.schedule.memory import fits, peaks
from superscaler.schedule.portfolio import portfolio
from superscaler.schedule.problem import Edge, Problem
from superscaler.schedule.solver import Progress, solve


def best_known(problem: Problem) -> int:
    return min(s.length for s in portfolio(problem) if fits(problem, s.start))


def test_reference_makespans() -> None:
    """Published and measured before with another program: F/B/W 1/1.1/0.8, latency 0.05."""
    problem = uniform(4, 8, latency=1, capacity=4)
    known = {s.made_by: s.length for s in portfolio(problem)}
    assert known["zb_h1"] == 554  # 27.7 of 20 ticks
    solved = solve(problem)
    assert (solved.length, solved.status, solved.gap) == (554, "optimal", 0.0)


def test_equal_costs() -> None:
    problem = pipeline([(1, 1, 1)] * 4, [0, 1, 2, 3], 8, capacity=4)
    assert solve(problem).length == 27


@pytest.mark.parametrize("capacity", [2, 3, 4, 8])
@pytest.mark.parametrize("latency", [1, 10])
def test_proven_and_never_worse(capacity: int, latency: int) -> None:
    problem = uniform(4, 8, latency=latency, capacity=capacity)
    solved = solve(problem, time_limit_s=20)
    assert solved.status == "optimal"
    assert lower_bound(problem) <= solved.bound == solved.length <= best_known(problem)
    assert check(problem, solved.start) == []
    assert max(peaks(problem, solved.start)) <= capacity


def test_better_than_any_known_order_where_memory_is_short() -> None:
    problem = uniform(4, 8, latency=1, capacity=3)
    assert solve(problem, time_limit_s=20).length < best_known(problem)


def test_v_placement() -> None:
    problem = uniform(3, 6, per_device=2, latency=1, capacity=6)
    solved = solve(problem, time_limit_s=5)
    assert check(problem, solved.start) == []
    assert solved.length <= best_known(problem)


def test_span_counts_each_device_by_itself() -> None:
    problem = uniform(3, 6, latency=1)
    span = solve(problem, objective="span", time_limit_s=5)
    assert span.length < solve(problem, time_limit_s=5).length
    assert check(problem, span.start) == []


def test_an_unknown_objective() -> None:
    with pytest.raises(ScheduleError, match="objective 'cost': expected one of makespan, span"):
        solve(uniform(2, 2), objective="cost")


def test_user_orders_are_kept() -> None:
    problem = uniform(2, 4)
    last, first = problem.number["F0.3"], problem.number["F0.0"]
    ordered = replace(problem, edges=(*problem.edges, Edge(last, first, 0, "order")))
    solved = solve(ordered)
    assert solved.start[last] < solved.start[first]


def test_orders_that_contradict() -> None:
    problem = uniform(2, 2)
    back, forth = problem.number["B0.0"], problem.number["F0.0"]
    cyclic = replace(problem, edges=(*problem.edges, Edge(back, forth, 0, "order")))
    with pytest.raises(ScheduleError, match="waits for itself: the edges are cyclic"):
        solve(cyclic)


def test_when_time_runs_out_the_best_known_is_kept_and_said() -> None:
    problem = uniform(8, 16, per_device=2, latency=1, capacity=12)
    solved = solve(problem, time_limit_s=0.2)
    assert solved.status == "feasible"
    assert solved.length <= best_known(problem)
    assert solved.bound < solved.length
    assert "time limit" in solved.notes[0] or "no better order" in solved.notes[0]


def test_progress() -> None:
    seen: list[Progress] = []
    solve(uniform(4, 8, latency=1, capacity=3), progress=seen.append)
    assert [p.best for p in seen] == sorted((p.best for p in seen), reverse=True)
    assert all(0 <= p.gap < 1 for p in seen)


def test_memory_that_cannot_fit() -> None:
    problem = pipeline([(1, 1, 1)] * 2, [0, 1], 4, capacity=5, activation=8)
    with pytest.raises(ScheduleError) as caught:
        solve(problem, time_limit_s=2)
    text = str(caught.value)
    assert "device memory of device 0 cannot hold the step" in text
    assert "3 more than its 5" in text
    assert "recompute more" in text
    assert "microbatches in place of 4" in text


def test_same_input_same_schedule() -> None:
    problem = uniform(4, 8, latency=1, capacity=3)
    assert solve(problem, workers=1).length == solve(problem, workers=1).length

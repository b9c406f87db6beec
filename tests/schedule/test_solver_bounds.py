"""Bounds and list schedules of the solver: links by memory, quotas, swings."""

from dataclasses import replace

import pytest
from pipelines import pipeline, uniform

from superscaler.schedule.bound import bound_by, limits_of, lower_bound
from superscaler.schedule.check import check
from superscaler.schedule.links import links_of
from superscaler.schedule.memory import fits
from superscaler.schedule.pipeline import Placement, StageCosts, pipeline_problem
from superscaler.schedule.problem import Edge, Problem
from superscaler.schedule.solver import Progress, solve
from superscaler.schedule.solver.quota import with_quotas
from superscaler.schedule.solver.swing import swing


def swung(problem: Problem) -> int:
    limits = limits_of(problem)
    found = swing(problem, limits, "makespan", bound_by(problem, limits))
    assert found is not None
    assert check(problem, found.start) == []
    return found.length


def test_memory_is_links_where_a_stage_is_alone_on_its_device() -> None:
    problem = uniform(2, 4, capacity=2)
    links = links_of(problem)
    named = {(problem.works[a].name, problem.works[b].name) for a, b in links.by_memory}
    assert ("W0.0", "F0.2") in named
    assert ("W1.1", "F1.3") in named
    assert len(named) == 4
    assert links.loose == ()


def test_no_links_where_everything_fits() -> None:
    assert links_of(uniform(2, 4, capacity=4)).by_memory == ()


def test_two_stages_on_a_device_share_its_memory() -> None:
    assert links_of(uniform(2, 4, per_device=2, capacity=4)).loose == (0, 1)


def test_what_b_frees_is_counted_until_b_ends() -> None:
    """Of 3 bytes W keeps 1: of 6 bytes two may be before the end of B."""
    costs = StageCosts.uniform(1, activation=3, kept=1)
    problem = pipeline_problem(costs, Placement.linear(1, 4), capacity=6)
    links = links_of(problem)
    named = {(problem.works[a].name, problem.works[b].name) for a, b in links.by_memory}
    assert ("B0.0", "F0.2") in named
    assert ("W0.0", "F0.2") not in named
    assert links.loose == (0,)


def test_microbatches_that_differ_are_not_sorted() -> None:
    problem = uniform(2, 4, capacity=2)
    longer = replace(problem.works[0], duration=99)
    links = links_of(replace(problem, works=(longer, *problem.works[1:])))
    assert all(problem.works[a].microbatch > 0 for a, _ in links.sorted_pairs)


@pytest.mark.parametrize("capacity", [2, 3, 4])
def test_the_bound_sees_memory(capacity: int) -> None:
    """At most 3 % below the optimum, which is proven; without memory's links it is far below."""
    problem = pipeline([(10, 11, 8)] * 4, [0, 1, 2, 3], 8, latency=1, capacity=capacity)
    best = solve(problem, time_limit_s=20)
    assert best.status == "optimal"
    assert 0.97 * best.length <= lower_bound(problem) <= best.length


def test_the_span_bound_counts_from_a_lane_s_own_first_start() -> None:
    """The first device waits for its gradients; the last one never waits."""
    problem = pipeline([(10, 10, 10)] * 3, [0, 1, 2], 1)
    assert lower_bound(problem, "span") == 70
    assert solve(problem, objective="span").length == 70


def test_list_schedules_meet_the_bound() -> None:
    problem = uniform(8, 16, latency=1, capacity=8)
    assert swung(problem) == lower_bound(problem)


def test_quotas_keep_within_shared_memory() -> None:
    problem = uniform(4, 8, per_device=2, latency=1, capacity=6)
    tight = with_quotas(problem, limits_of(problem), 1.0)
    assert tight is not None
    assert tight.links.loose == ()
    assert swung(problem) > 0


def test_no_quotas_without_room_for_one_each() -> None:
    problem = uniform(4, 8, per_device=2, latency=1, capacity=1)
    assert with_quotas(problem, limits_of(problem), 1.0) is None


def test_list_schedules_of_works_on_two_lanes() -> None:
    problem = uniform(2, 2)
    both = replace(problem, works=(replace(problem.works[0], lanes=(0, 1)), *problem.works[1:]))
    found = swing(both, limits_of(both), "makespan", 0)
    assert found is not None
    assert check(both, found.start) == []
    assert check(both, solve(both, time_limit_s=2).start) == []


def test_a_step_that_waits_for_all_microbatches() -> None:
    """An update after all W, and an order between microbatches."""
    problem = uniform(3, 5, latency=1, capacity=2)
    order = Edge(problem.number["F0.1"], problem.number["F0.0"], 0, "order")
    changed = replace(problem, edges=(*problem.edges, order))
    found = solve(changed, time_limit_s=5)
    assert check(changed, found.start) == []
    assert fits(changed, found.start)


def test_progress_starts_with_what_is_known() -> None:
    seen: list[Progress] = []
    problem = uniform(4, 8, latency=1, capacity=4)
    found = solve(problem, progress=seen.append)
    assert seen[-1].best == found.length
    assert seen[0].bound == lower_bound(problem)

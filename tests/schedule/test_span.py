"""The span of devices: schedules of a smaller span may end later."""

import random
from dataclasses import replace

import pytest
from ortools.sat.python import cp_model
from pipelines import pipeline, uniform

from superscaler.schedule.bound import limits_of
from superscaler.schedule.problem import Edge, Kind, Lane, Problem, Work
from superscaler.schedule.replay import length
from superscaler.schedule.solver import Progress, solve
from superscaler.schedule.solver.horizon import span_horizon


def on_lanes(lanes: list[int], ticks: list[int], edges: list[Edge], count: int = 3) -> Problem:
    works = [
        Work(str(i), Kind.OTHER, -1, -1, (lane,), t)
        for i, (lane, t) in enumerate(zip(lanes, ticks))
    ]
    return Problem(tuple(Lane((d,)) for d in range(count)), tuple(works), tuple(edges))


def test_a_device_that_begins_later_has_a_smaller_span() -> None:
    """Work 3 cannot begin before 6, and 0 should be right before it; this makes 4 begin at 9 and
    end at 10, where all could have ended at 7."""
    edges = [Edge(0, 4, 3), Edge(1, 2, 1), Edge(1, 3, 1), Edge(2, 3), Edge(2, 4)]
    problem = on_lanes([1, 0, 3, 1, 2], [2, 3, 2, 1, 1], edges)
    problem = replace(problem, lanes=(*problem.lanes, Lane((0,), "net")))
    assert length(problem, (1, 0, 4, 6, 6)) == 7
    assert length(problem, (1, 0, 4, 6, 6), "span") == 6
    assert length(problem, (4, 0, 4, 6, 9), "span") == 3
    found = solve(problem, objective="span")
    assert (found.length, found.status) == (3, "optimal")


def least_span(problem: Problem) -> int:
    """By a plain model in which there is time for everything."""
    cp = cp_model.CpModel()
    end = sum(w.duration for w in problem.works) + sum(e.latency for e in problem.edges)
    start = [cp.new_int_var(0, end - w.duration, w.name) for w in problem.works]
    for e in problem.edges:
        cp.add(start[e.after] >= start[e.before] + problem.works[e.before].duration + e.latency)
    span = cp.new_int_var(0, end, "span")
    for lane, on in zip(problem.lanes, problem.on_lane):
        runs = [(start[w], problem.works[w].duration) for w in on]
        cp.add_no_overlap([cp.new_fixed_size_interval_var(s, d, "") for s, d in runs])
        if on and lane.kind == "compute":
            first = cp.new_int_var(0, end, "first")
            cp.add_min_equality(first, [s for s, _ in runs])
            for s, d in runs:
                cp.add(span >= s + d - first)
    cp.minimize(span)
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    assert solver.solve(cp) == cp_model.OPTIMAL
    return round(solver.objective_value)


def drawn(seed: int) -> Problem:
    """Up to seven works on two or three devices and up to two links."""
    draw = random.Random(seed)
    devices, links, count = draw.randint(2, 3), draw.randint(0, 2), draw.randint(4, 7)
    lanes = [Lane((d,)) for d in range(devices)] + [Lane((0,), f"net{i}") for i in range(links)]
    works = []
    for i in range(count):
        on = (draw.randrange(len(lanes)),)
        works.append(Work(str(i), Kind.OTHER, -1, -1, on, draw.randint(1, 4)))
    pairs = ((a, b) for a in range(count) for b in range(a + 1, count))
    edges = [Edge(a, b, draw.choice([0, 0, 1, 3])) for a, b in pairs if draw.random() < 0.3]
    return Problem(tuple(lanes), tuple(works), tuple(edges))


@pytest.mark.parametrize("seed", [6, 77, 82, 106, 120, 155, 242, *range(300, 330)])
def test_optimal_is_optimal(seed: int) -> None:
    problem = drawn(seed)
    found = solve(problem, objective="span")
    assert (found.length, found.status) == (least_span(problem), "optimal")


def test_the_bound_told_is_one_of_all_schedules() -> None:
    """Here what ends no later than the known order has 6 at least."""
    problem, told = drawn(77), list[Progress]()
    solve(problem, objective="span", progress=told.append)
    assert max(p.bound for p in told) <= 3


def test_the_horizon_of_lanes_that_need_each_other() -> None:
    """Down and up again: the second device works between two works of the first."""
    problem = pipeline([(10, 10, 10)] * 2, [0, 1], 1)
    assert span_horizon(problem, limits_of(problem), 50) == 60


def test_the_horizon_of_lanes_that_do_not() -> None:
    problem = on_lanes([0, 1], [2, 3], [], 2)
    assert span_horizon(problem, limits_of(problem), 3) == 5
    assert span_horizon(uniform(4, 8), limits_of(uniform(4, 8)), 600) < 4 * 8 * 58


def test_no_works() -> None:
    problem = on_lanes([], [], [], 1)
    assert span_horizon(problem, limits_of(problem), 0) == 0

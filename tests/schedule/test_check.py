"""The validator against replay and memory on random schedules, and planted contradictions."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise

import networkx as nx
import pytest
from pipelines import uniform

from superscaler.errors import ScheduleError
from superscaler.schedule.check import check, require
from superscaler.schedule.memory import peaks
from superscaler.schedule.problem import Edge, Hold, Kind, Lane, Memory, Problem, Work
from superscaler.schedule.replay import replay

NUM_RANDOM = 1000
Order = list[list[int]]


def random_case(seed: int) -> tuple[Problem, Order]:
    """A small problem with latencies, works on several lanes, holds, and an order of its lanes,
    which contradicts the edges about half of the time."""
    draw = random.Random(seed)
    lanes, count = draw.randint(1, 3), draw.randint(2, 10)
    works = tuple(
        Work(
            f"w{i}",
            Kind.OTHER,
            -1,
            -1,
            tuple(sorted(draw.sample(range(lanes), draw.randint(1, lanes)))),
            draw.randint(1, 5),
        )
        for i in range(count)
    )
    edges = tuple(
        Edge(a, b, draw.randint(0, 3))
        for b in range(count)
        for a in range(b)
        if draw.random() < 0.25
    )
    holds = tuple(
        Hold(0, draw.randint(1, 9), (a,), (b,))
        for a, b in (sorted(draw.choices(range(count), k=2)) for _ in range(4))
    )
    problem = Problem(
        tuple(Lane((d,)) for d in range(lanes)), works, edges, (Memory((0,), 1 << 30),), holds
    )
    order = [list(on) for on in problem.on_lane]
    for line in order:
        if len(line) > 1 and draw.random() < 0.5:
            i, j = draw.sample(range(len(line)), 2)
            line[i], line[j] = line[j], line[i]
    return problem, order


def contradicts(problem: Problem, order: Order) -> bool:
    graph = nx.DiGraph([(e.before, e.after) for e in problem.edges])
    for line in order:
        graph.add_edges_from(pairwise(line))
    return not nx.is_directed_acyclic_graph(graph)


def test_random_schedules() -> None:
    """Replay, memory and validator agree on each: on cycles, on times, on every byte."""
    refused = 0
    for seed in range(NUM_RANDOM):
        problem, order = random_case(seed)
        if contradicts(problem, order):
            refused += 1
            with pytest.raises(ScheduleError, match="wait for each other"):
                replay(problem, order)
            continue
        start = replay(problem, order)
        assert check(problem, start) == []
        for w in range(len(start)):  # each as early as can be: none could start a tick before
            if start[w]:
                early = [*start[:w], start[w] - 1, *start[w + 1 :]]
                assert check(problem, early), (seed, w)
        (peak,) = peaks(problem, start)
        for capacity, fits in ((peak, True), (peak - 1, False)):
            tight = replace(problem, memories=(Memory((0,), capacity),))
            assert (check(tight, start) == []) == fits, seed
    assert 100 < refused < NUM_RANDOM - 100


# planted


def test_a_cycle_of_data() -> None:
    problem = uniform(2, 1)
    f, b = problem.number["F0.0"], problem.number["B0.0"]
    cyclic = replace(problem, edges=(*problem.edges, Edge(b, f)))
    with pytest.raises(ScheduleError, match=r"waits for \S+ \(data\)"):
        replay(cyclic, [None, None])


def test_a_cycle_with_an_order() -> None:
    problem = uniform(2, 2)
    f, b = problem.number["F1.0"], problem.number["B1.0"]
    cyclic = replace(problem, edges=(*problem.edges, Edge(b, f, 0, "order")))
    with pytest.raises(ScheduleError) as caught:
        replay(cyclic, [None, None])
    assert "F1.0 waits for B1.0 (order)" in str(caught.value)
    assert "B1.0 waits for F1.0 (data)" in str(caught.value)


def test_a_cycle_of_resources() -> None:
    """Device 0 runs microbatch 0 before 1, device 1 wants the backward of 1 first."""
    problem = uniform(2, 2)
    lines = [
        ["F0.0", "B0.0", "W0.0", "F0.1", "B0.1", "W0.1"],
        ["F1.1", "B1.1", "W1.1", "F1.0", "B1.0", "W1.0"],
    ]
    order = [[problem.number[name] for name in line] for line in lines]
    with pytest.raises(ScheduleError, match="these works wait for each other") as caught:
        replay(problem, order)
    assert "lane" in str(caught.value)
    assert "(data)" in str(caught.value)


def test_what_is_wrong_is_said() -> None:
    problem = uniform(2, 1, latency=3, capacity=1)
    start = list(replay(problem, [None, None]))
    at = problem.number["F1.0"]
    start[at] -= 4
    with pytest.raises(ScheduleError) as caught:
        require(problem, start)
    assert "F1.0 starts at 19, F0.0 lets it start at 23 (data)" in str(caught.value)
    assert check(problem, [-1, *start[1:]])[0] == "F0.0 starts at -1, before the step does"
    assert check(problem, start[1:]) == ["6 works, but 5 start times"]


def test_overlap_and_memory_are_said() -> None:
    problem = uniform(1, 2, capacity=1)
    line = ["F0.0", "F0.1", "B0.0", "W0.0", "B0.1", "W0.1"]
    start = replay(problem, [[problem.number[name] for name in line]])
    assert check(problem, start) == [
        "device memory of device 0 holds 2 bytes at 20, 1 more than its 1"
    ]
    both = list(start)
    both[problem.number["F0.1"]] = 0
    assert "starts at 0 while F0." in "\n".join(check(problem, both))

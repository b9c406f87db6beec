"""What the scheduler is told of a program, against what the simulator finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import pytest
from subjects import Subject, gpt

import superscaler as ss
from superscaler.cluster.cluster import Cluster
from superscaler.compiler import CompiledProgram
from superscaler.schedule.memory import peaks
from superscaler.schedule.problem import Kind, Problem
from superscaler.schedule.replay import length, replay
from superscaler.schedule.task_problem import task_problem
from superscaler.search.costs import segment_costs
from superscaler.search.step_costs import step_costs

PIPELINE = "hybrid(dp=2, pp=2, zero={}, microbatches=4)"
REPLICAS = "hybrid(dp=2, zero={}, microbatches=4)"


@cache
def model() -> Subject:
    return gpt(layers=2, hidden=64, heads=2, seq=32, batch=16)


def cluster(slower: int) -> Cluster:
    """Links of which the bytes take `slower` times as long."""
    fast = Cluster.load("v100-32g-8x4")
    links = tuple(replace(link, gbytes_per_s=link.gbytes_per_s / slower) for link in fast.links)
    return replace(fast, links=links)


@cache
def program(text: str, slower: int = 1) -> CompiledProgram:
    return ss.compile(model().graph, text, cluster(slower), axes=model().axes)


@cache
def problem_of(text: str, slower: int = 1) -> Problem:
    found = program(text, slower).program
    return task_problem(found.tasks, step_costs(found, cluster(slower)))


def predicted_us(text: str, slower: int = 1) -> float:
    """The step as the scheduler sees it, in the order that the program has."""
    problem, order = problem_of(text, slower), program(text, slower).program.timed.order
    return length(problem, replay(problem, lines_of(problem, order))) * problem.tick_us


def lines_of(problem: Problem, order: Sequence[int]) -> list[list[int] | None]:
    """What devices compute in that order, and what is sent when it is ready."""
    return [
        [t for t in order if t in set(works)] if lane.kind == "compute" else None
        for lane, works in zip(problem.lanes, problem.on_lane)
    ]


@pytest.mark.parametrize("zero", [0, 3])
@pytest.mark.parametrize("text", [PIPELINE, REPLICAS])
def test_the_step_is_as_simulated(zero: int, text: str) -> None:
    """Adding up the gradients of microbatches is a tenth of it."""
    plan = text.format(zero)
    assert predicted_us(plan) == pytest.approx(program(plan).simulate().step_us, rel=0.03)


@pytest.mark.parametrize("zero", [1, 2, 3])
@pytest.mark.parametrize(("text", "within"), [(PIPELINE, 0.17), (REPLICAS, 0.08)])
def test_the_step_is_as_simulated_where_links_are_slow(zero: int, text: str, within: float) -> None:
    """Parameters are gathered for a quarter of it with ZeRO 1 and 2; to unpack them is not counted,
    which shows since they are small."""
    plan = text.format(zero)
    simulated = program(plan, 400).simulate().step_us
    assert predicted_us(plan, 400) == pytest.approx(simulated, rel=within)


def test_what_a_task_leaves_under_way_is_a_work_that_the_update_waits_for() -> None:
    problem = problem_of(REPLICAS.format(2), 400)
    reductions = [
        n
        for n, work in enumerate(problem.works)
        if work.kind is Kind.COMMUNICATION and work.microbatch >= 0
    ]
    assert [problem.works[n].microbatch for n in reductions] == [0, 1, 2, 3]
    for n in reductions:
        (before,) = {problem.works[e.before].name for e in problem.incoming[n]}
        (after,) = {problem.works[e.after].kind for e in problem.outgoing[n]}
        assert before.startswith("backward")
        assert after is Kind.UPDATE


def test_no_gather_is_under_way_at_the_end_of_a_task() -> None:
    """Buckets of parameters are gathered one ahead, within the task (ZeRO 3)."""
    found = program(REPLICAS.format(3), 400).program
    for segment, cost in zip(found.tasks.segments, segment_costs(found, cluster(400))):
        for left in cost.left:
            assert segment.name.startswith("backward")
            assert all(name.endswith("_sum") for name, _ in left.values)


def test_parameters_are_gathered_before_they_are_read() -> None:
    problem = problem_of(PIPELINE.format(1), 400)
    gathers = [n for n, w in enumerate(problem.works) if "at rest" in w.name]
    assert gathers
    for n in gathers:
        assert problem.incoming[n] == ()
        assert all(problem.works[e.after].kind is not Kind.UPDATE for e in problem.outgoing[n])


@pytest.mark.parametrize("zero", [0, 1, 2, 3])
@pytest.mark.parametrize("text", [PIPELINE, REPLICAS, "hybrid(dp=4, zero={}, microbatches=4)"])
def test_memory_is_what_the_simulator_finds(zero: int, text: str) -> None:
    """Gradients of all microbatches are held whole until they are reduced (ZeRO 1), beside those
    that a task adds; parameters from where they are gathered (ZeRO 1 and 2)."""
    plan = text.format(zero)
    problem, order = problem_of(plan), program(plan).program.timed.order
    start = replay(problem, lines_of(problem, order))
    simulated = program(plan).simulate().peak_bytes
    assert simulated <= max(peaks(problem, start)) <= 1.2 * simulated

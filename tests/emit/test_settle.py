"""Copies out under way when their task has ended: when they end, what they hide and hold."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from subjects import gpt

import superscaler as ss
from superscaler.compiler import CompiledProgram
from superscaler.graph.axis import Axes
from superscaler.graph.graph import Graph
from superscaler.plan import PlanOffload
from superscaler.runtime import load_rank
from superscaler.schedule.memory import peaks
from superscaler.schedule.replay import replay
from superscaler.schedule.task_problem import task_problem
from superscaler.search.step_costs import step_costs
from superscaler.trace.axes import infer_axes

EXAMPLES = Path(__file__).parents[2] / "examples"
ACTIVATIONS = PlanOffload(activations=("layers.*",))


def long_rows(text: str, offload: PlanOffload) -> CompiledProgram:
    """For a model on the meta device whose products take longer than copies."""
    graph, axes = large()
    plan = replace(ss.policies.parse_plan(text), offload=offload)
    return ss.compile(graph, plan, ss.Cluster.load("v100-32g-8"), axes=axes)


@cache
def large() -> tuple[Graph, Axes]:
    settings = {"layers": 4, "hidden": 2048, "heads": 16, "seq": 1024, "batch": 8, "meta": True}
    work = ss.load_workload(f"{EXAMPLES / 'gpt.py'}:workload", settings)
    graph = ss.trace(work.step, work.model, work.batch, work.optimizer)
    return graph, infer_axes(graph)


def test_the_last_copies_out_are_waited_for_after_the_next_task() -> None:
    plan = ss.policies.parse_plan("pipeline(pp=2, microbatches=4)")
    found = gpt(batch=8).compile(replace(plan, offload=ACTIVATIONS))
    schedule = load_rank(found.files, 0).schedule
    shown = [f"{name} {time[0]}" for name, time in schedule if time and "convert" not in name]
    assert shown[:6] == [
        "forward_0 0",
        "forward_0 1",
        "settle_forward_0 0",
        "backward_0 0",
        "settle_forward_0 1",
        "forward_0 2",
    ]


@pytest.mark.parametrize("text", ["pipeline(pp=2, microbatches=8)", "hybrid(microbatches=8)"])
def test_copies_are_hidden_behind_other_tasks(text: str) -> None:
    plain = long_rows(text, PlanOffload()).simulate()
    hidden = long_rows(text, replace(ACTIVATIONS, ahead="auto")).simulate()
    assert hidden.step_us < 1.06 * plain.step_us
    assert hidden.peak_bytes <= plain.peak_bytes


@pytest.mark.parametrize("ahead", [1, 8, 1000])
def test_the_scheduler_counts_copies_under_way(ahead: int) -> None:
    """As the simulator finds for the same order, but for what is on its way between devices."""
    found = long_rows("pipeline(pp=2, microbatches=8)", replace(ACTIVATIONS, ahead=ahead))
    problem = task_problem(found.program.tasks, step_costs(found.program, found.cluster))
    position = {t: n for n, t in enumerate(found.program.timed.order)}
    lines: list[list[int] | None] = [
        sorted(works, key=position.__getitem__) if lane.kind == "compute" else None
        for lane, works in zip(problem.lanes, problem.on_lane)
    ]
    predicted = max(peaks(problem, replay(problem, lines)))
    expected = found.simulate().peak_bytes
    assert 0.99 * expected <= predicted < 1.1 * expected

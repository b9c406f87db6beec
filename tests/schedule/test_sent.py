"""What tasks send each other, as works on lanes."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from subjects import gpt

import superscaler as ss
from superscaler.compiler import CompiledProgram
from superscaler.schedule.check import check
from superscaler.schedule.problem import Kind, Problem, Work
from superscaler.schedule.solver import solve
from superscaler.schedule.task_problem import task_problem
from superscaler.search.best_order import best_order
from superscaler.search.step_costs import step_costs


def cluster(gbytes_per_s: float) -> ss.Cluster:
    """Four V100s without latencies, with links of a speed."""
    found = ss.Cluster.load("v100-32g-8x4")
    link = replace(found.links[0], gbytes_per_s=gbytes_per_s, latency_us=0.0)
    device = replace(found.device_kind, launch_us=0.0)
    return replace(found, links=(link, *found.links[1:]), device_kind=device)


def problem(plan: str, gbytes_per_s: float) -> Problem:
    subject, on = gpt(layers=4, batch=8), cluster(gbytes_per_s)
    program = ss.compile(subject.graph, plan, on, axes=subject.axes).program
    return task_problem(program.tasks, step_costs(program, on))


def sent(found: Problem) -> list[Work]:
    return [w for w in found.works if w.kind is Kind.COMMUNICATION]


PIPELINE = "hybrid(pp=2, microbatches=4)"


def test_each_microbatch_is_sent_up_and_its_gradient_down_over_both_links() -> None:
    found = problem(PIPELINE, 0.001)
    up_and_down = sorted((w.microbatch, w.stage) for w in sent(found) if w.microbatch >= 0)
    assert up_and_down == [(m, s) for m in range(4) for s in range(2)]
    for work in sent(found):
        assert [found.lanes[lane].name for lane in work.lanes] == ["0:nvlink", "1:nvlink"]


def test_what_is_sent_starts_after_its_maker_and_before_its_readers() -> None:
    found = problem(PIPELINE, 0.001)
    for number, work in enumerate(found.works):
        if work.kind is Kind.COMMUNICATION and work.microbatch >= 0:
            makers = [found.works[e.before] for e in found.incoming[number]]
            readers = [found.works[e.after] for e in found.outgoing[number]]
            assert {(w.stage, w.microbatch) for w in makers} == {(work.stage, work.microbatch)}
            assert {(w.stage, w.microbatch) for w in readers} == {(1 - work.stage, work.microbatch)}


def test_a_link_that_is_hardly_busy_is_a_latency() -> None:
    found = problem(PIPELINE, 1e6)
    assert sent(found) == []
    assert {lane.kind for lane in found.lanes} == {"compute"}
    slower = problem(PIPELINE, 0.001)
    assert sum(e.latency for e in slower.edges) == 0


def test_a_group_sends_over_one_lane() -> None:
    """Devices that do the same are one lane, also for what they send."""
    found = problem("hybrid(tp=2, pp=2, microbatches=4)", 0.001)
    names = {found.lanes[lane].name for w in sent(found) for lane in w.lanes}
    assert names == {"0:nvlink", "2:nvlink"}


def test_gradients_of_replicas_are_sent_once_after_all_microbatches() -> None:
    found = problem("hybrid(dp=2, pp=2, microbatches=4)", 0.001)
    once = [n for n, w in enumerate(found.works) if w.kind is Kind.COMMUNICATION]
    once = [n for n in once if found.works[n].microbatch < 0]
    assert once
    for number in once:
        assert len({found.works[e.before].microbatch for e in found.incoming[number]}) in (1, 4)


@pytest.mark.parametrize(
    "plan", [PIPELINE, "hybrid(pp=2, microbatches=4, stages_per_device=2, order='interleaved')"]
)
def test_two_messages_do_not_share_a_lane(plan: str) -> None:
    found = problem(plan, 0.001)
    schedule = solve(found, time_limit_s=3)
    assert check(found, schedule.start) == []
    for lane, works in zip(found.lanes, found.on_lane):
        if lane.kind == "nvlink":
            spans = sorted((schedule.start[w], found.works[w].duration) for w in works)
            assert all(a + d <= b for (a, d), (b, _) in pairwise(spans))
            assert sum(d for _, d in spans) <= schedule.length


def test_an_order_for_slow_links_is_about_what_the_simulator_says() -> None:
    """With latencies alone the order seems half as long as it is."""
    subject, slow = gpt(layers=4, batch=8), cluster(0.0005)
    plan = "hybrid(pp=2, microbatches=4, stages_per_device=2, order='auto')"
    program = ss.compile(subject.graph, plan, slow, axes=subject.axes)
    found = best_order(program.program, slow, time_limit_s=3)
    said = found.schedule.length * found.problem.tick_us
    assert 0.75 < said / program.simulate().step_us < 1.05


def test_the_order_that_was_found_has_no_lines_for_links() -> None:
    subject, slow = gpt(layers=4, batch=8), cluster(0.001)
    plan = "hybrid(pp=2, microbatches=4, order='auto')"
    program = ss.compile(subject.graph, plan, slow, axes=subject.axes)
    assert program.ordered is not None
    assert sent(program.ordered.problem)
    assert len(program.ordered.order.lines) == 2
    again = ss.compile(
        subject.graph, ss.Plan.from_yaml(program.files["plan.yaml"]), slow, axes=subject.axes
    )
    assert stage_tasks(again) == stage_tasks(program)


def stage_tasks(program: CompiledProgram) -> dict[int, list[tuple[str, tuple[int, ...]]]]:
    """Per rank: the tasks of its stages, in turn."""
    phases = ("forward", "backward", "weight")
    return {
        rank: [(name, time) for name, time in entries if name.startswith(phases)]
        for rank, entries in program.listing.schedules.items()
    }


def test_what_travels_together_has_one_latency() -> None:
    """Gradients of a replica are some messages of many tensors."""
    subject, on = gpt(layers=4, batch=8), ss.Cluster.load("v100-32g-8x2")
    plan = "hybrid(dp=2, zero=1, microbatches=2)"
    program = ss.compile(subject.graph, plan, on, axes=subject.axes)
    found = task_problem(program.program.tasks, step_costs(program.program, on))
    ticks = [*(w.duration for w in sent(found)), *(e.latency for e in found.edges)]
    longest = max(ticks) * found.tick_us
    assert 0 < longest < 2 * program.simulate().classes[0].busy_us["nvlink"]

"""Segments, tasks and their order: barriers, known orders, what may not be."""

from __future__ import annotations

from dataclasses import replace

import pytest
from subjects import gpt, mlp

from superscaler import policies
from superscaler.compiler import partition_of
from superscaler.errors import ScheduleError
from superscaler.plan import Plan
from superscaler.schedule.build import build_schedule
from superscaler.schedule.linear import Timed, linearize
from superscaler.schedule.orders import sequences
from superscaler.schedule.tasks import TaskGraph
from superscaler.schedule.validate import validate_schedule
from superscaler.transform import Split, op_assign, op_order, op_trans, select, start
from superscaler.transform.partial import propagate_partial


def scheduled(plan: Plan) -> tuple[TaskGraph, Timed]:
    partition = propagate_partial(partition_of(mlp().graph, plan, mlp().axes))
    return build_schedule(partition)


def text(plan: Plan) -> str:
    """Each device's tasks in order: F0 is the forward of microbatch 0."""
    graph, timed = scheduled(plan)
    lanes: dict[int, list[str]] = {}
    for number in timed.order:
        task = graph.tasks[number]
        label = graph.segments[task.segment].label
        if label.startswith(("forward", "backward")):
            for device in task.devices:
                lanes.setdefault(device, []).append(f"{label[0].upper()}{task.time[0]}")
    return "\n".join(f"{d}: {' '.join(lanes[d])}" for d in sorted(lanes))


def test_one_f_one_b() -> None:
    assert text(policies.pipeline(pp=2, microbatches=4)) == (
        "0: F0 F1 B0 F2 B1 F3 B2 B3\n1: F0 B0 F1 B1 F2 B2 F3 B3"
    )


def test_gpipe() -> None:
    assert text(policies.pipeline(pp=2, microbatches=4, order="gpipe")) == (
        "0: F0 F1 F2 F3 B0 B1 B2 B3\n1: F0 F1 F2 F3 B0 B1 B2 B3"
    )


def test_no_sequence_without_microbatches() -> None:
    assert sequences("1f1b", [(0,), (1,)], 1) == sequences("none", [(0,), (1,)], 4) == ()


@pytest.mark.parametrize("order", ["gpipe", "1f1b"])
@pytest.mark.parametrize("stages", [1, 2, 3, 5])
@pytest.mark.parametrize("microbatches", [2, 4, 7])
def test_every_order_runs_everything_once(order: str, stages: int, microbatches: int) -> None:
    devices = [(s,) for s in range(stages)]
    for s, sequence in enumerate(sequences(order, devices, microbatches)):
        labels = ("forward", "backward", "weight")
        expected = {(f"{p}_{s}", m) for p in labels for m in range(microbatches)}
        assert len(sequence) == len(expected)
        assert set(sequence) == expected
        for m in range(microbatches):
            assert sequence.index((f"forward_{s}", m)) < sequence.index((f"backward_{s}", m))


def test_a_stage_is_few_segments() -> None:
    graph, _ = scheduled(policies.pipeline(pp=2, microbatches=4))
    labels = [s.label for s in graph.segments]
    assert labels.count("forward_0") == labels.count("backward_0") == labels.count("update_0") == 1


def test_segments_hold_every_operator_once() -> None:
    graph, _ = scheduled(policies.hybrid(dp=2, tp=2, pp=2, microbatches=2))
    held = [op for s in graph.segments for op in s.operators]
    assert sorted(held) == list(range(len(mlp().graph.operators)))


def test_what_waits_for_all_microbatches_is_a_barrier() -> None:
    """Clipping needs every microbatch's gradients before any update: no task may contain both."""
    subject = mlp(clip=1.0)
    plan = policies.pipeline(pp=2, microbatches=2)
    partition = propagate_partial(partition_of(subject.graph, plan, subject.axes))
    graph, timed = build_schedule(partition)
    validate_schedule(graph, timed)
    updates = [t for t in graph.tasks if graph.segments[t.segment].label.startswith("update")]
    backward = [t for t in graph.tasks if graph.segments[t.segment].label.startswith("backward")]
    last = max(timed.end[t.id] for t in backward)
    assert all(timed.start[t.id] >= last for t in updates)


def test_segments_of_gpt_are_convex() -> None:
    """No path leaves a segment and comes back: tasks always have an order."""
    plan = policies.hybrid(dp=2, pp=2, microbatches=2, zero=3)
    partition = propagate_partial(partition_of(gpt().graph, plan, gpt().axes))
    validate_schedule(*build_schedule(partition))


# orders that cannot be


def test_a_cyclic_order_names_operators_ranks_and_kinds() -> None:
    partition = start(mlp().graph, mlp().axes)
    first, second = (select(partition.graph, f"layers.{n}.fc1.mm", phase="forward") for n in (0, 1))
    with pytest.raises(ScheduleError) as caught:
        build_schedule(op_order(partition, second, first))
    lines = str(caught.value).splitlines()
    assert lines[0] == "the order is cyclic: these operators wait for each other"
    assert "  layers.0.fc1.mm [0] waits for layers.1.fc1.mm [0] (order)" in lines
    assert any(line.endswith("(data)") for line in lines)
    assert lines[-1] == "remove one of the op_order edges"


def test_a_cyclic_order_of_parts() -> None:
    partition = start(mlp().graph, mlp().axes)
    first, second = (select(partition.graph, f"layers.{n}.fc1.mm", phase="forward") for n in (0, 1))
    for ops in (first, second):
        partition = op_assign(op_trans(partition, ops, Split("batch", 2)), ops, [0, 0])
    assert build_schedule(op_order(partition, first, second, (1,), (0,)))
    with pytest.raises(ScheduleError) as caught:
        build_schedule(op_order(partition, second, first, (0,), (0,)))
    assert "the order is cyclic: these tasks wait for each other" in str(caught.value)
    assert "(order)" in str(caught.value)
    assert "(data)" in str(caught.value)
    assert "[ranks 0]" in str(caught.value)


def test_an_order_of_a_part_that_does_not_exist() -> None:
    partition = op_order(start(mlp().graph, mlp().axes), "layers.0.fc1.mm", "head.mm", (3,))
    with pytest.raises(ScheduleError, match=r"op_order: part \(3,\) does not exist"):
        build_schedule(partition)


# validation


def test_valid() -> None:
    validate_schedule(*scheduled(policies.hybrid(dp=2, pp=2, microbatches=4)))


def test_validate_finds_an_early_start() -> None:
    graph, timed = scheduled(policies.pipeline(pp=2, microbatches=2))
    late = timed.order[-1]
    start_times = list(timed.start)
    start_times[late] = 0.0
    with pytest.raises(ScheduleError, match=r"starts at 0, before .* ends at .* \((data|order)\)"):
        validate_schedule(graph, replace(timed, start=tuple(start_times)))


def test_validate_finds_two_tasks_at_once() -> None:
    graph, timed = scheduled(policies.pipeline(pp=2, microbatches=2, order="gpipe"))
    free = replace(graph, before=tuple({} for _ in graph.tasks))
    same = replace(timed, start=(0.0,) * len(graph.tasks), end=(1.0,) * len(graph.tasks))
    with pytest.raises(ScheduleError, match=r"while .* runs until 1 \(resource: rank 0\)"):
        validate_schedule(free, same)


def test_validate_finds_what_never_runs() -> None:
    graph, timed = scheduled(policies.pipeline(pp=2, microbatches=2))
    with pytest.raises(ScheduleError, match="never runs"):
        validate_schedule(graph, replace(timed, order=timed.order[:-1]))


def test_validate_finds_a_cycle() -> None:
    graph, timed = scheduled(policies.pipeline(pp=2, microbatches=2))
    first, last = timed.order[0], timed.order[-1]
    before = list(graph.before)
    before[first] = {last: "order"}
    before[last] = {**before[last], first: "data"}
    cyclic = replace(graph, before=tuple(before))
    for check in (
        lambda: validate_schedule(cyclic, timed),
        lambda: linearize(cyclic, [1.0] * len(before)),
    ):
        with pytest.raises(ScheduleError, match="these tasks wait for each other") as caught:
            check()
        assert "(order)" in str(caught.value)

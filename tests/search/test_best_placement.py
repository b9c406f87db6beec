"""Best placement: stages placed by the scheduler train exactly, and as fast as it said."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
from subjects import Subject, gpt

import superscaler as ss
from superscaler import policies
from superscaler.compiler import CompiledProgram
from superscaler.errors import PlanError, ScheduleError
from superscaler.plan import Plan, PlanAssign, PlanSchedule, PlanStage
from superscaler.policies import parse_plan
from superscaler.schedule.memory import peaks
from superscaler.schedule.orders import PipelineOrder
from superscaler.search.best_order import best_order
from superscaler.transform.stages import assign_stages


def toy() -> Subject:
    return gpt(layers=4, batch=8)


def searched(plan: Plan, placement: str = "free", seconds: float = 3.0) -> Plan:
    return replace(plan, order="auto", schedule=PlanSchedule(seconds, placement=placement))


def compiled(plan: Plan, cluster: ss.Cluster | None = None) -> CompiledProgram:
    return ss.compile(toy().graph, plan, cluster, axes=toy().axes)


def ran(program: CompiledProgram) -> set[tuple[int, tuple[str, ...]]]:
    """Per rank: the tasks of stages, in turn."""
    tasks = program.program.tasks
    lines: dict[int, list[str]] = {}
    for number in program.program.timed.order:
        task = tasks.tasks[number]
        label = tasks.segments[task.segment].label
        if label.split("_")[0] in ("forward", "backward", "weight"):
            for rank in task.devices:
                lines.setdefault(rank, []).append(f"{label}{task.time[:1]}")
    return {(rank, tuple(dict.fromkeys(line))) for rank, line in lines.items()}


PLANS = {
    "free": searched(policies.hybrid(pp=3, microbatches=4)),
    "linear": searched(policies.hybrid(pp=3, microbatches=4), "linear"),
    "v": searched(policies.hybrid(pp=2, microbatches=4), "v"),
    "looped": searched(policies.hybrid(pp=2, microbatches=4), "looped"),
    "data parallel": searched(policies.hybrid(dp=2, pp=2, microbatches=2, zero=1)),
    "tensor parallel": searched(policies.hybrid(tp=2, pp=2, microbatches=2)),
    "fused": replace(searched(policies.hybrid(pp=2, microbatches=4)), backward="fused"),
    "recompute": searched(policies.hybrid(pp=2, microbatches=4, recompute="layers.*")),
    "many microbatches": searched(policies.hybrid(pp=1, microbatches=8)),
    "co-shard": searched(parse_plan("coshard(hybrid(pp=2, microbatches=2), parts=2)")),
    "ring": searched(parse_plan("context_parallel(cp=2, ring=True, pp=2, microbatches=2)")),
    "offload": searched(policies.hybrid(pp=2, microbatches=2, offload_activations="layers.*")),
    "one microbatch": policies.pipeline(pp=2, microbatches=1, order="auto", placement="free"),
}


@pytest.mark.parametrize("name", PLANS)
def test_placed_plans_train_exactly_and_can_be_read_again(name: str) -> None:
    program = compiled(PLANS[name])
    assert toy().check(program.files).ok
    assert program.placed is not None
    assert program.notes[0].startswith("stages placed by the solver (")
    plan = Plan.from_yaml(program.files["plan.yaml"])
    assert not plan.schedule.placement
    assert [s.devices for s in plan.stages] == [s.devices for s in program.placed.plan.stages]
    assert all(s.first for s in plan.stages[1:])
    assert ran(compiled(plan)) == ran(program)
    found = program.placed.found
    judged = max(peaks(found.problem, found.schedule.start))
    assert 0.5 < judged / program.simulate().peak_bytes < 1.3  # without temporaries


def test_a_form_is_kept() -> None:
    for placement, devices in (("linear", [0, 1]), ("v", [0, 1, 1, 0]), ("looped", [0, 1, 0, 1])):
        plan = searched(policies.hybrid(pp=2, microbatches=4), placement)
        program = compiled(plan)
        assert program.placed is not None
        assert [s.devices[0] for s in program.placed.plan.stages] == devices


def test_a_faster_device_gets_more_of_the_model() -> None:
    fast = ss.Cluster(2).device_kind
    slow = replace(fast, kind="slow", launch_us=4 * fast.launch_us)
    cluster = ss.Cluster.from_dict(
        {
            **ss.Cluster(2, fast).to_dict(),
            "others": [{"num_devices": 1, "device": asdict(slow)}],
        }
    )
    program = compiled(searched(policies.hybrid(pp=2, microbatches=4), "linear"), cluster)
    assert program.placed is not None
    stages = assign_stages(toy().graph, toy().axes, program.placed.plan)
    assert stages.count(0) > 2.5 * stages.count(1)
    even = compiled(replace(policies.hybrid(pp=2, microbatches=4), order="auto"), cluster)
    assert program.simulate().step_us < 0.8 * even.simulate().step_us
    assert toy().check(program.files).ok


def test_the_order_of_the_search_is_a_hint() -> None:
    program = compiled(replace(policies.hybrid(pp=2, microbatches=2), order="auto"))
    with pytest.raises(ScheduleError, match=r"order mine: F0\.0 is missing"):
        best_order(program.program, program.cluster, known=PipelineOrder("mine", ((), ())))


def test_the_policy_asks_for_the_search() -> None:
    plan = policies.pipeline(pp=2, microbatches=4, order="auto", placement="free")
    assert plan.schedule.placement == "free"
    assert [s.devices for s in plan.stages] == [(0,), (1,)]
    assert Plan.from_yaml(plan.to_yaml()) == plan
    with pytest.raises(PlanError, match="placement free is decided with the order; expected order"):
        policies.pipeline(pp=2, microbatches=4, placement="free")


def two(**changes: object) -> Plan:
    return replace(searched(policies.hybrid(pp=2, microbatches=2)), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (two(order="1f1b"), "placement free: the scheduler places stages together with the order"),
        (two(assign=(PlanAssign(("**.fc1",)),)), "placement free: expected no assign entries"),
        (
            two(stages=(PlanStage((0,), modules=("layers.0",)), PlanStage((1,)))),
            "placement free: stage 0 says what it consists of (layers.0)",
        ),
        (
            two(stages=(PlanStage((0, 1), {"dp": 2}), PlanStage((2,)))),
            "placement free: expected the mesh of stage 0 on every stage, found {} on stage 1",
        ),
        (
            two(stages=(PlanStage((0, 1), {"dp": 2}), PlanStage((1, 2), {"dp": 2}))),
            "placement free: expected groups of devices that are equal or apart, found device 1",
        ),
    ],
)
def test_what_leaves_no_choice(plan: Plan, message: str) -> None:
    with pytest.raises(PlanError) as caught:
        compiled(plan)
    assert message in str(caught.value)


def test_more_devices_than_pieces() -> None:
    with pytest.raises(ScheduleError, match="layers cannot fill 512 devices; use at most"):
        compiled(searched(policies.hybrid(pp=512, microbatches=2)))


def test_a_memory_that_is_too_small() -> None:
    cluster = ss.Cluster(2)
    small = replace(cluster.device_kind, memory_gbytes=2e-5)
    with pytest.raises(
        ScheduleError, match=r"no placement of kind .* fits: device memory of device"
    ):
        compiled(
            searched(policies.hybrid(pp=2, microbatches=4)), replace(cluster, device_kind=small)
        )

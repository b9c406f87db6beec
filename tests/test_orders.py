"""Programs run in the orders that plans name, spell out, or leave to the solver."""

from pathlib import Path

import pytest
import torch
from subjects import gpt

import superscaler as ss
from superscaler.cluster import Device
from superscaler.compiler import CompiledProgram
from superscaler.errors import ScheduleError, SuperScalerError
from superscaler.plan import Plan
from superscaler.schedule.problem import Kind
from superscaler.verify.driver import verify_program
from superscaler.verify.expected import expect
from superscaler.workload import cast, load_workload

ORDERS = [
    "pipeline(pp=2, microbatches=4, order='zb_h1')",
    "pipeline(pp=2, microbatches=4, order='zb_h2')",
    "pipeline(pp=2, microbatches=4, order='auto')",
    "pipeline(pp=2, microbatches=4, order='interleaved', stages_per_device=2)",
    "pipeline(pp=2, microbatches=4, order='breadth_first', stages_per_device=2)",
    "pipeline(pp=2, microbatches=4, order='auto', stages_per_device=2, placement='v')",
    "hybrid(tp=2, pp=2, microbatches=4, order='zb_h1')",
    "hybrid(dp=2, pp=2, zero=2, microbatches=2, order='zb_h1')",
    "hybrid(dp=2, pp=2, zero=3, microbatches=4, order='auto', recompute='**.0')",
]
TEXT = [
    "F0.0 F0.1 B0.0 F0.2 B0.1 W0.0 F0.3 B0.2 B0.3 W0.1 W0.2 W0.3",
    "F1.0 B1.0 F1.1 B1.1 W1.0 F1.2 B1.2 F1.3 B1.3 W1.1 W1.2 W1.3",
]
MODELS = Path(__file__).parent / "models"
FAMILIES = ["gpt", "llama", "swin", "mbart"]  # the last three from `transformers`, unchanged


@pytest.mark.parametrize("family", FAMILIES)
def test_programs_verify_in_every_order(family: str) -> None:
    workload = cast(load_workload(f"{MODELS / family}.py:{family}", {}), torch.float64)
    graph = ss.trace(workload.step, workload.model, workload.batch, workload.optimizer)
    expected = expect(workload, 2)
    plans = ORDERS if family == "gpt" else [ORDERS[0], ORDERS[2], ORDERS[5]]
    for plan in plans:
        program = ss.compile(graph, plan)
        report = verify_program(workload, program.files, expected=expected, processes=False)
        assert report.ok, f"{family} under {plan}: {report.largest_error}"


@pytest.mark.dist
def test_twelve_layers_on_gloo_processes() -> None:
    gpt_example = Path(__file__).parent.parent / "examples" / "gpt.py"
    workload = load_workload(f"{gpt_example}:workload", {"layers": "12"})
    assert ss.verify(workload, "pipeline(pp=4, microbatches=8, order='auto')", steps=1).ok


def explicit(*lines: str) -> Plan:
    order = "order: [" + ", ".join(lines) + "]"
    return Plan.from_yaml(f"stages: [{{devices: [0]}}, {{devices: [1]}}]\nmicrobatches: 4\n{order}")


def ran(program: CompiledProgram) -> list[str]:
    """Rank 0's tasks, by kind and microbatch."""
    tasks = program.program.tasks
    shown = []
    for number in program.program.timed.order:
        task, label = tasks.tasks[number], tasks.segments[tasks.tasks[number].segment].label
        if 0 in task.devices and label.split("_")[0] in ("forward", "backward", "weight"):
            shown.append(f"{label[0].upper()}{task.time[0]}")
    return shown


def test_an_explicit_order_is_followed() -> None:
    program = ss.compile(gpt().graph, explicit(*TEXT))
    # nothing waits for stage 0: all of its backward is W
    assert ran(program) == ["F0", "F1", "F2", "W0", "F3", "W1", "W2", "W3"]


def test_an_explicit_order_contradicting_the_data() -> None:
    lines = [TEXT[0], TEXT[1].replace("F1.0 B1.0", "B1.0 F1.0")]
    with pytest.raises(ScheduleError, match="these tasks wait for each other") as caught:
        ss.compile(gpt().graph, explicit(*lines))
    assert "backward_1" in str(caught.value)
    assert "(head.view to sum:2)" in str(caught.value)  # operators by name
    assert "(order, line 2: B1.0 F1.0)" in str(caught.value)


def test_auto_is_reported_and_its_plan_reproduces_it() -> None:
    program = ss.compile(gpt().graph, ORDERS[2])
    assert program.schedule is not None
    assert program.ordered is not None
    assert program.schedule.status == "optimal"
    assert program.schedule.gap == 0.0
    assert {w.kind for w in program.ordered.problem.works} >= {Kind.FORWARD, Kind.WEIGHT}
    saved = Plan.from_yaml(program.files["plan.yaml"])
    assert saved.order == str(program.ordered.order)
    assert ran(ss.compile(gpt().graph, saved)) == ran(program)


def test_auto_within_a_memory_that_is_too_small() -> None:
    cluster = ss.Cluster(2, Device(memory_gbytes=1e-4))
    with pytest.raises(SuperScalerError, match=r"cannot hold the step") as caught:
        ss.compile(gpt().graph, ORDERS[2], cluster)
    assert "shard them (zero)" in str(caught.value)


def test_weight_gradients_are_tasks_of_their_own() -> None:
    program = ss.compile(gpt().graph, ORDERS[0]).program
    graph = program.partition.graph
    labels = {s.label: s for s in program.tasks.segments}
    assert {"backward_1", "weight_1", "weight_0"} <= set(labels)
    assert "backward_0" not in labels  # no other stage waits for it
    products = [op for op in labels["weight_1"].operators if "mm" in graph.operators[op].target]
    assert products
    for op in labels["backward_1"].operators:
        for tensor in graph.operators[op].inputs:
            if tensor in graph.producer:
                assert graph.producer[tensor][0] not in labels["weight_1"].operators


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            "pipeline(pp=2, microbatches=2, order='best')",
            "expected one of gpipe, 1f1b, .*, found 'best'",
        ),
        ("pipeline(pp=2, microbatches=2, placement='v')", "found 'v' with 1"),
        ("pipeline(pp=2, microbatches=2, stages_per_device=0)", "stages_per_device of 1 or more"),
    ],
)
def test_policies_name_what_is_wrong(call: str, message: str) -> None:
    with pytest.raises(SuperScalerError, match=message):
        ss.policies.parse_plan(call)

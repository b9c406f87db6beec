"""Backward work that other stages wait for (B) apart from weight gradients (W)."""

from collections import Counter

import networkx as nx
import pytest
from subjects import MODELS, Subject, gpt, mlp, subject

import superscaler as ss
from superscaler.compiler import partition_of
from superscaler.graph.operator import Phase
from superscaler.graph.tensor import TensorKind
from superscaler.policies import parse_plan, pipeline
from superscaler.schedule.build import build_schedule
from superscaler.transform.partial import propagate_partial
from superscaler.transform.partition import Partition
from superscaler.transform.views import delay_views

PLANS = [
    "pipeline(pp=3, microbatches=2, order='zb_h1')",
    "pipeline(pp=2, microbatches=4, order='zb_v')",
    "hybrid(dp=2, tp=2, pp=2, zero=3, microbatches=2, order='zb_h1')",
    "hybrid(pp=2, microbatches=2, order='zb_h1', recompute='**')",
]


def partition(of: Subject, plan: str) -> Partition:
    return partition_of(of.graph, parse_plan(plan), of.axes)


def waited_for(part: Partition) -> set[int]:
    """Timed backward operators from which a path of such operators leads to another stage."""
    graph, stages = nx.DiGraph(), {}
    for op in part.graph.operators:
        phase, _, stage = part.placed[op.id].label.partition("_")
        if phase in ("backward", "weight"):
            stages[op.id] = stage
    graph.add_nodes_from(stages)
    for op in stages:
        for tensor in part.graph.operators[op].outputs:
            readers = part.graph.consumers.get(tensor, ()) if tensor >= 0 else ()
            graph.add_edges_from((op, r) for r, _ in readers if r in stages)
    return {op for op in stages if any(stages[r] != stages[op] for r in nx.descendants(graph, op))}


@pytest.mark.parametrize("plan", PLANS)
def test_backward_is_what_other_stages_wait_for(plan: str) -> None:
    part = partition(gpt(layers=4, tied=True), plan)
    labelled = {op for op, placed in enumerate(part.placed) if placed.label.startswith("backward_")}
    assert labelled == waited_for(part)
    assert labelled


@pytest.mark.parametrize("plan", PLANS)
def test_one_task_each_for_every_stage(plan: str) -> None:
    part = partition(gpt(layers=4), plan)
    tasks, _ = build_schedule(propagate_partial(delay_views(part)))
    count = Counter(s.label for s in tasks.segments)
    stages = {s.label.rpartition("_")[2] for s in tasks.segments if "forward" in s.label}
    assert all(count[f"forward_{s}"] == 1 for s in stages)
    assert all(count[f"weight_{s}"] <= 1 for s in stages)  # a stage of the loss alone has none
    assert count["weight_0"] == 1
    assert all(count[f"backward_{s}"] == (s != "0") for s in stages)


@pytest.mark.parametrize("name", ["gpt", "mbart"])
def test_the_gradient_of_a_tied_parameter_is_not_waited_for(name: str) -> None:
    """It is added up in the stage that has the parameter, after all microbatches."""
    part = partition(gpt(tied=True) if name == "gpt" else subject(name), PLANS[0].replace("3", "2"))
    shared = [
        p for p in part.graph.of_kind(TensorKind.PARAM) if len(stages_reading(part, p.id)) > 1
    ]
    assert shared
    for tensor in shared:
        update = next(u for u in part.graph.updates if u.param == tensor.id)
        makers, tensors = set(), [update.grad]
        while tensors:
            op = part.graph.producer[tensors.pop()][0]
            if part.placed[op].label.startswith("shared_"):
                tensors += part.graph.operators[op].inputs
            else:
                makers.add(part.placed[op].label)
        assert makers == {"weight_0", "weight_1"}


def stages_reading(part: Partition, tensor: int) -> set[str]:
    readers = [r for r, _ in part.graph.consumers[tensor]]
    forward = [r for r in readers if part.graph.operators[r].phase is Phase.FORWARD]
    return {part.placed[r].label.rpartition("_")[2] for r in forward}


def test_nothing_is_recomputed_twice() -> None:
    part = partition(gpt(layers=4), PLANS[3])
    again = [op for op in part.graph.operators if op.name.endswith(".again")]
    labels = Counter(part.placed[op.id].label for op in again)
    assert labels["backward_1"]
    assert max(Counter(op.forward for op in again).values()) == 1


@pytest.mark.parametrize("order", ["1f1b", "none"])
def test_a_plan_may_ask_for_it(order: str) -> None:
    plan = ss.Plan(pipeline(pp=2, microbatches=2).stages, 2, order=order, backward="split")
    program = mlp().compile(plan)
    assert {"backward_1", "weight_1"} <= {s.label for s in program.program.tasks.segments}
    assert mlp().check(program.files).ok


def test_the_solver_may_be_told_not_to() -> None:
    plan = ss.Plan(pipeline(pp=2, microbatches=2).stages, 2, order="auto", backward="fused")
    labels = {s.label for s in mlp().compile(plan).program.tasks.segments}
    assert {"backward_0", "backward_1"} <= labels
    assert "weight_1" not in labels


@pytest.mark.parametrize("frozen", [(0, 2), (1, 3)])
def test_frozen_layers(frozen: tuple[int, ...]) -> None:
    """Nobody waits for a gradient that no trained parameter needs; a stage may have no W."""
    workload = ss.load_workload(f"{MODELS / 'mlp.py'}:mlp", {"layers": 4})
    for layer in frozen:
        workload.model.layers[layer].requires_grad_(False)
    stages = "{devices: [0], modules: [layers.0]}, {devices: [1], modules: [layers.1]}, "
    stages += "{devices: [2], modules: [layers.2]}, {devices: [3], modules: [layers.3, head]}"
    for order in ("zb_h1", "auto"):
        plan = ss.Plan.from_yaml(f"stages: [{stages}]\nmicrobatches: 4\norder: {order}")
        report = ss.verify(workload, plan, processes=False)
        assert report.ok, report.largest_error

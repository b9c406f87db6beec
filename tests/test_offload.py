"""Activations, optimizer states and parameters in host memory: exact results, exact bytes."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from subjects import Subject, gpt
from typer.testing import CliRunner

import superscaler as ss
from superscaler.cli.app import app
from superscaler.cluster.machine import Host
from superscaler.compiler import CompiledProgram
from superscaler.errors import PlanError, ScheduleError, SimulateError, TransformError
from superscaler.plan import Plan, PlanOffload
from superscaler.runtime import RankExecutor, load_rank, load_ranks, update
from superscaler.runtime.checkpoint import load_checkpoint, save_checkpoint
from superscaler.runtime.local import lone_rank
from superscaler.runtime.memory import MemoryMeter
from superscaler.trace.axes import infer_axes

ACTIVATIONS = PlanOffload(activations=("layers.*",))
OPTIMIZER = PlanOffload(optimizer=True)
PARAMETERS = PlanOffload(parameters=("layers.*", "tokens"))
ALL = PlanOffload(("layers.*",), True, ("**",))
KINDS = {"activations": ACTIVATIONS, "optimizer": OPTIMIZER, "parameters": PARAMETERS, "all": ALL}
PLANS = [
    "hybrid()",
    "data_parallel(dp=2)",
    "zero(dp=2, stage=3)",
    "megatron(tp=2, sequence_parallel=True)",
    "pipeline(pp=2, microbatches=4)",
    "hybrid(recompute='layers.*')",
]
MIXED = [
    "hybrid(dp=2, tp=2, zero=3, microbatches=2)",
    "hybrid(pp=2, dp=2, microbatches=4, order='zb_h1', zero=2, recompute='layers.0')",
    "hybrid(pp=2, microbatches=4, order='auto')",
]


def model() -> Subject:
    return gpt(batch=8)


def offloaded(text: str, offload: PlanOffload) -> Plan:
    return replace(ss.policies.parse_plan(text), offload=offload)


@cache
def program(text: str, kind: str) -> CompiledProgram:
    plan = offloaded(text, KINDS[kind]) if kind else ss.policies.parse_plan(text)
    return ss.compile(model().graph, plan, ss.Cluster.load("cpu"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", PLANS)
def test_offload_is_exact(text: str, kind: str) -> None:
    report = model().check(model().compile(offloaded(text, KINDS[kind])).files)
    assert report.ok, report.summary


@pytest.mark.parametrize("text", MIXED)
def test_all_of_it_with_many_other_forms(text: str) -> None:
    report = model().check(model().compile(offloaded(text, ALL)).files)
    assert report.ok, report.summary


@pytest.mark.parametrize("ahead", [1, 5, 1000])
def test_copies_may_come_earlier_or_later(ahead: int) -> None:
    plan = offloaded("pipeline(pp=2, microbatches=4)", replace(ALL, ahead=ahead))
    assert model().check(model().compile(plan).files).ok


# memory


def counted(found: CompiledProgram) -> MemoryMeter:
    executor = started(found)
    executor.step(model().workload.batch)  # makes the states
    meter = MemoryMeter(executor)
    meter.step(model().workload.batch)
    return meter


def started(found: CompiledProgram) -> RankExecutor:
    executor = RankExecutor(
        load_rank(found.files, 0), lone_rank(), optimizer=model().workload.optimizer
    )
    executor.load_weights(dict(model().workload.model.state_dict()))
    return executor


@pytest.mark.parametrize("kind", ["", *KINDS])
@pytest.mark.parametrize("text", ["hybrid()", "hybrid(microbatches=4)"])
def test_bytes_on_device_and_host_are_as_simulated(text: str, kind: str) -> None:
    found = program(text, kind)
    meter, simulation = counted(found), found.simulate()
    assert meter.peak_bytes == simulation.peak_bytes
    assert meter.host_peak_bytes == simulation.host_peak_bytes
    assert (meter.host_peak_bytes > 0) == bool(kind)


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_go_from_the_device_to_the_host(kind: str) -> None:
    plain, moved = program("hybrid()", "").simulate(), program("hybrid()", kind).simulate()
    assert moved.peak_bytes < plain.peak_bytes
    assert moved.classes[0].resident_bytes + moved.host_peak_bytes >= (
        plain.classes[0].resident_bytes
    )


def test_an_update_in_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = counted(program("hybrid()", "all")).peak_bytes
    monkeypatch.setattr(update, "BUCKET_BYTES", 20_000)
    found = program("hybrid()", "all")
    meter, simulation = counted(found), found.simulate()
    assert meter.peak_bytes == simulation.peak_bytes < whole
    assert model().check(found.files).ok


def test_states_rest_in_host_memory() -> None:
    states = sum(
        x.nbytes
        for x in started_once("optimizer").host_values()
        if not isinstance(x, torch.nn.Parameter)
    )
    parameters = sum(p.nbytes for p in model().workload.model.parameters())
    assert states == 2 * parameters  # of AdamW
    assert program("hybrid()", "optimizer").simulate().host_peak_bytes == states


def started_once(kind: str) -> RankExecutor:
    executor = started(program("hybrid()", kind))
    executor.step(model().workload.batch)
    return executor


# on a GPU, as simulated


@pytest.mark.parametrize("kind", KINDS)
def test_copies_have_lanes_of_their_own_and_overlap(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(update, "BUCKET_BYTES", 20_000)
    (rank_class,) = program("hybrid()", kind).simulate(ss.Cluster.load("v100-32g-8")).classes
    lanes = {lane: [e for e in rank_class.events if e.lane == lane] for lane in rank_class.busy_us}
    assert {"compute", "copy in", "copy out"} <= set(lanes)
    for lane in ("copy in", "copy out"):
        ends = [e.end_us for e in lanes[lane]]
        assert all(a <= e.start_us for a, e in zip(ends, lanes[lane][1:], strict=False))
    busy = sum(rank_class.busy_us[lane] for lane in ("copy in", "copy out"))
    assert rank_class.exposed_us < busy
    moved = rank_class.sent_bytes
    assert moved["copy in"] >= moved["copy out"] > 0


def test_more_copies_ahead_hide_more_and_hold_more() -> None:
    cluster = ss.Cluster.load("v100-32g-8")
    found = [
        model().compile(offloaded("hybrid()", replace(ACTIVATIONS, ahead=n))).simulate(cluster)
        for n in (1, 1000)
    ]
    assert found[0].exposed_us > found[1].exposed_us
    assert found[0].peak_bytes < found[1].peak_bytes


def test_few_copies_out_keep_their_sources() -> None:
    cluster = ss.Cluster.load("v100-32g-8")
    few, many = (
        ss.compile(model().graph, offloaded("hybrid()", replace(ACTIVATIONS, ahead=n)), cluster)
        for n in (2, 1000)
    )
    assert few.simulate().peak_bytes < many.simulate().peak_bytes


def test_too_little_host_memory_is_an_error() -> None:
    small = replace(ss.Cluster.load("v100-32g-8"), host=Host(memory_gbytes=1e-4))
    with pytest.raises(SimulateError, match=r"host memory of node 0: its ranks keep .* a node; "):
        program("hybrid()", "all").simulate(small)


# plans and primitives


def test_the_primitive_does_what_the_plan_does() -> None:
    partition = ss.start(model().graph, model().axes)
    partition = ss.op_trans(partition, "layers.*", ss.Offload())
    targets = [op.target for op in partition.graph.operators]
    count = targets.count("superscaler.to_host.default")
    assert count == targets.count("superscaler.to_device.default") > 10
    partition = ss.op_trans(partition, ss.select_axis(partition, "batch"), ss.Split("batch", 2))
    assert model().check(model().compile(partition).files).ok
    with pytest.raises(TransformError, match="offload first, then split and assign"):
        ss.op_trans(partition, "layers.*", ss.Offload())


def test_a_copy_starts_before_its_use() -> None:
    text = program("hybrid()", "activations").files["program_0.py"]
    lines = [line.strip() for line in text.splitlines()]
    started = [n for n, line in enumerate(lines) if "ctx.to_device(" in line]
    waited = {line.split(" = ")[0]: n for n, line in enumerate(lines) if "= ctx.wait(" in line}
    gaps = [waited[lines[n].split(" = ")[0]] - n for n in started]
    assert min(gaps) >= 1
    assert sum(gap > 3 for gap in gaps) > len(gaps) / 2


def test_the_plan_as_text() -> None:
    plan = offloaded("hybrid()", replace(ALL, ahead=3))
    assert Plan.from_yaml(plan.to_yaml()) == plan
    assert "ahead: 3" in plan.to_yaml()
    with pytest.raises(PlanError, match=r"line 2: offload.optimizer: expected true or false"):
        Plan.from_yaml("stages: [{devices: [0]}]\noffload: {optimizer: adam}")
    with pytest.raises(PlanError, match=r"offload.ahead: expected a whole number above 0"):
        Plan.from_yaml("stages: [{devices: [0]}]\noffload: {ahead: 0}")


@pytest.mark.parametrize(
    ("offload", "message"),
    [
        (PlanOffload(activations=("blocks.*",)), "no operator matches 'blocks.\\*'"),
        (PlanOffload(parameters=("blocks.*",)), "none matches 'blocks.\\*'; expected names"),
        (PlanOffload(activations=("tokens",)), "the backward of these modules reads none"),
    ],
)
def test_patterns_that_match_nothing(offload: PlanOffload, message: str) -> None:
    with pytest.raises(TransformError, match=message):
        model().compile(offloaded("hybrid()", offload))


def test_an_optimizer_without_states() -> None:
    workload = model().workload
    sgd = ss.trace(
        workload.step, workload.model, workload.batch, lambda p: torch.optim.SGD(p, lr=0.1)
    )
    with pytest.raises(TransformError, match=r"SGD.* keeps no states of its parameters"):
        ss.compile(sgd, offloaded("hybrid()", OPTIMIZER))


# checkpoints and the command line


def test_checkpoints_load_across_plans(tmp_path: Path) -> None:
    batch, plain = model().workload.batch, program("hybrid()", "")
    expected = started(plain)
    for _ in range(3):
        expected.step(batch)
    save_checkpoint(started_once("all"), tmp_path / "host")
    save_checkpoint([started_plain(plain)], tmp_path / "device")
    for folder, kind in (("host", ""), ("device", "all"), ("host", "parameters")):
        found = started(program("hybrid()", kind))
        load_checkpoint(found, tmp_path / folder)
        assert found.step_number == 1
        for _ in range(2):
            found.step(batch)
        for key, value in expected.parameters.items():
            torch.testing.assert_close(found.parameters[key], value, rtol=1e-9, atol=1e-12)


def started_plain(plain: CompiledProgram) -> RankExecutor:
    executor = started(plain)
    executor.step(model().workload.batch)
    return executor


def test_the_policy_and_the_command_line() -> None:
    text = (
        "hybrid(offload_activations='layers.*', offload_optimizer=True, "
        "offload_parameters='layers.* tokens')"
    )
    plan = ss.policies.parse_plan(text)
    assert plan.offload == PlanOffload(("layers.*",), True, ("layers.*", "tokens"))
    assert ss.policies.offload(ss.policies.hybrid(), "layers.*").offload == ACTIVATIONS
    workload = f"{Path(__file__).parent / 'models/gpt.py'}:gpt"
    done = CliRunner().invoke(app, ["simulate", workload, "--plan", text])
    assert done.exit_code == 0, done.output
    assert "host memory" in done.output
    assert "copy in" in done.output


def test_ranks_know_where_their_parameters_rest() -> None:
    ranks = load_ranks(model().compile(offloaded("zero(dp=2, stage=1)", ALL)).files)
    for rank in ranks:
        assert {(p.memory, p.states) for p in rank.parameters} == {("host", "host")}


# copies ahead, decided


def on_v100(gbytes: float) -> ss.Cluster:
    found = ss.Cluster.load("v100-32g-8x2")
    return replace(found, device_kind=replace(found.device_kind, memory_gbytes=gbytes))


@pytest.mark.parametrize("text", ["hybrid()", "pipeline(pp=2, microbatches=4)", MIXED[-1]])
def test_copies_ahead_are_decided_and_exact(text: str) -> None:
    plan = offloaded(text, replace(ACTIVATIONS, ahead="auto"))
    found = ss.compile(model().graph, plan, on_v100(32))
    assert model().check(found.files).ok
    honoured = Plan.from_yaml(found.files["plan.yaml"])
    assert honoured.offload.ahead == found.program.partition.copies_ahead
    assert Plan.from_yaml(plan.to_yaml()) == plan


def test_as_many_copies_ahead_as_memory_has_room_for() -> None:
    plan = offloaded("hybrid()", replace(ACTIVATIONS, ahead="auto"))
    many = ss.compile(model().graph, plan, on_v100(32))
    fixed = [
        ss.compile(model().graph, offloaded("hybrid()", replace(ACTIVATIONS, ahead=n)), on_v100(32))
        for n in (1, 2)
    ]
    steps = [p.simulate().step_us for p in (many, *fixed)]
    assert steps[0] <= min(steps[1:])
    least, most = fixed[0].simulate().peak_bytes, many.simulate().peak_bytes
    assert least < most
    few = ss.compile(model().graph, plan, on_v100((least + 0.2 * (most - least)) / 1e9))
    assert few.program.partition.copies_ahead < many.program.partition.copies_ahead
    assert few.simulate().peak_bytes < most


def test_no_number_of_copies_ahead_fits() -> None:
    plan = offloaded(MIXED[-1], replace(ACTIVATIONS, ahead="auto"))
    with pytest.raises(ScheduleError, match=r"device 0 cannot hold the step: at least"):
        ss.compile(model().graph, plan, on_v100(1e-4))


def test_ahead_is_auto_or_a_number() -> None:
    with pytest.raises(PlanError, match=r"offload.ahead: expected auto or a whole number above 0"):
        Plan.from_yaml("stages: [{devices: [0]}]\noffload: {ahead: many}")
    with pytest.raises(PlanError, match=r"ahead"):
        ss.policies.parse_plan("offload(hybrid(), activations='layers.*', ahead='many')")


# the batch

BATCH = PlanOffload(batch=True)


@pytest.mark.parametrize(
    "text", [*PLANS, *MIXED, "context_parallel(cp=2, ring=True, striped=True)"]
)
def test_the_batch_in_host_memory_is_exact(text: str) -> None:
    report = model().check(model().compile(offloaded(text, BATCH)).files)
    assert report.ok, report.summary


@pytest.mark.parametrize("text", ["hybrid()", "hybrid(microbatches=4)"])
def test_bytes_of_a_batch_in_host_memory_are_as_simulated(text: str) -> None:
    found = ss.compile(model().graph, offloaded(text, BATCH), ss.Cluster.load("cpu"))
    meter, simulation = counted(found), found.simulate()
    assert meter.peak_bytes == simulation.peak_bytes
    leaves = sum(x.nbytes for x in model().workload.batch.values())
    assert meter.host_peak_bytes == simulation.host_peak_bytes == leaves


def test_each_microbatch_is_copied_in_when_it_is_read() -> None:
    cluster = ss.Cluster.load("v100-32g-8")
    text = "hybrid(microbatches=4)"
    moved = model().compile(offloaded(text, BATCH)).simulate(cluster)
    plain = model().compile(ss.policies.parse_plan(text)).simulate(cluster)
    copies = [e for e in moved.classes[0].events if e.lane == "copy in"]
    assert len(copies) >= 4
    assert moved.peak_bytes < plain.peak_bytes


def test_a_batch_as_text() -> None:
    plan = offloaded("hybrid()", BATCH)
    assert Plan.from_yaml(plan.to_yaml()) == plan
    assert ss.policies.hybrid(offload_batch=True) == plan
    with pytest.raises(PlanError, match=r"offload.batch: expected true or false, found 3"):
        Plan.from_yaml("stages: [{devices: [0]}]\noffload: {batch: 3}")


# modules that cut what they read


class Halves(torch.nn.Module):
    """Reads the two halves of the batch, of a parameter and of an activation."""

    def __init__(self) -> None:
        super().__init__()
        self.a = torch.nn.Linear(8, 16)
        self.w = torch.nn.Parameter(torch.randn(16, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        u, v = self.a(torch.cat(x.chunk(2, 1)[::-1], 1)).chunk(2, -1)
        up, down = self.w.chunk(2, 0)
        return torch.sin(u) @ up * (v @ down)


def halves() -> ss.Workload:
    torch.manual_seed(0)
    batch = {"x": torch.randn(8, 8), "y": torch.randn(8, 1), "id": torch.arange(8), "none": None}
    return ss.Workload(
        lambda m, b: torch.nn.functional.mse_loss(m(b["x"]), b["y"]),
        torch.nn.Sequential(Halves()),
        lambda p: torch.optim.SGD(p, lr=0.1),
        batch,
    )


@pytest.mark.parametrize(
    "offload",
    [
        PlanOffload(activations=("*",)),
        PlanOffload(activations=("*",), ahead="auto"),
        PlanOffload(parameters=("**",)),
        PlanOffload(batch=True),
    ],
)
def test_pieces_of_what_comes_back_are_the_right_ones(offload: PlanOffload) -> None:
    """And leaves of the batch that the step does not read are no matter."""
    work = halves()
    graph = ss.trace(work.step, work.model, work.batch, work.optimizer)
    subject = Subject(work, graph, infer_axes(graph))
    plan = offloaded("hybrid(microbatches=2)", offload)
    assert subject.check(ss.compile(subject.graph, plan, ss.Cluster.load("v100-32g-8")).files).ok


@pytest.mark.parametrize("text", ["hybrid()", "hybrid(microbatches=4)"])
@pytest.mark.parametrize("kind", ["activations", "parameters"])
def test_copies_ahead_are_compared_in_time(text: str, kind: str) -> None:
    subject, cluster = gpt(layers=6, batch=8), ss.Cluster.load("v100-32g-8x2")
    steps = {
        n: ss.compile(subject.graph, offloaded(text, replace(KINDS[kind], ahead=n)), cluster)
        .simulate()
        .step_us
        for n in ("auto", 1, 2, 8)
    }
    assert steps["auto"] <= 1.02 * min(steps.values())


def test_what_is_offloaded_adds_up() -> None:
    text = "offload(offload(hybrid(), optimizer=True, activations='layers.0'), batch=True)"
    found = ss.policies.parse_plan(text).offload
    assert found == PlanOffload(("layers.0",), True, (), PlanOffload.ahead, True)

"""Plans as YAML: the round trip, and errors that name the file, the line and the field."""

from __future__ import annotations

from pathlib import Path

import pytest
from subjects import mlp

import superscaler as ss
from superscaler import policies
from superscaler.errors import PlanError
from superscaler.plan import Plan, PlanAssign, PlanOptimizer, PlanSplit, PlanStage

PLANS = [
    policies.data_parallel(dp=2),
    policies.zero(dp=4, stage=3),
    policies.megatron(tp=2, sequence_parallel=True),
    policies.hybrid(dp=2, tp=2, pp=2, zero=2, microbatches=4, recompute="layers.0 layers.1"),
    Plan(
        stages=(
            PlanStage((0, 3), {"tp": 2}, ("layers.0",)),
            PlanStage((1, 2), {"dp": 2}, ("layers.1",)),
        ),
        splits=(PlanSplit("batch", "dp", ("layers.*",), True),),
        optimizer=PlanOptimizer("dp", "use", "microbatch"),
        assign=(
            PlanAssign(
                ("head",), (("batch", 2), ("replicate", 2)), ((0, 1), (2, 3)), "forward", True
            ),
        ),
        name="mixed",
    ),
]


@pytest.mark.parametrize("plan", PLANS)
def test_yaml_round_trip(plan: Plan, tmp_path: Path) -> None:
    plan.save(tmp_path / "plan.yaml")
    assert Plan.load(tmp_path / "plan.yaml") == plan


def test_a_saved_policy_compiles_to_the_same_bytes(tmp_path: Path) -> None:
    plan = policies.hybrid(tp=2, pp=2, microbatches=2, zero=0)
    plan.save(tmp_path / "plan.yaml")
    path = str(tmp_path / "plan.yaml")
    text = "hybrid(tp=2, pp=2, microbatches=2)"
    first, second, third = (mlp().compile(p).files for p in (plan, path, text))
    assert first == second == third


STAGE = "stages:\n- devices: [0, 1]\n  mesh: {dp: 2}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("microbatches: 2\n", "p.yaml, line 1: stages: this field is missing"),
        ("stages: []\n", "p.yaml, line 1: stages: expected at least one stage, found none"),
        ("stages: 3\n", "p.yaml, line 1: stages: expected a list, found 3"),
        ("stages: [3]\n", "p.yaml, line 1: stages.0: expected a mapping, found 3"),
        ("- 1\n", "p.yaml, line 1: expected a mapping, found [1]"),
        (STAGE + "ordr: gpipe\n", "p.yaml, line 4: ordr: unknown field; known: stages, "),
        (
            STAGE + "splits: [{axis: batch, dim: x, recompute: true}]\n",
            "p.yaml, line 4: splits.0.recompute: expected parts as well: only splits in time run "
            "again",
        ),
        (
            STAGE + "backward: twice\n",
            "p.yaml, line 4: backward: expected fused or split, found 'twice'",
        ),
        (
            STAGE + "order: zigzag\n",
            "p.yaml, line 4: order: expected one of gpipe, 1f1b, nf1b, interleaved, "
            "breadth_first, chimera, zb_h1, zb_h2, zb_v, v_half, v_min, dualpipe, auto, none, or a "
            "list of lines such as 'F0.0 F0.1 BW0.0 BW0.1', found 'zigzag'",
        ),
        (
            STAGE + "microbatches: 0\n",
            "p.yaml, line 4: microbatches: expected a whole number above 0, found 0",
        ),
        (
            STAGE + "splits:\n- {axis: batch}\n",
            "p.yaml, line 5: splits.0.dim: this field is missing",
        ),
        (
            STAGE + "splits:\n- {axis: 1, dim: dp}\n",
            "p.yaml, line 5: splits.0.axis: expected a name, found 1",
        ),
        (STAGE + "recompute: layers\n", "p.yaml, line 4: recompute: expected a list of patterns"),
        (
            STAGE + "optimizer: {gather: never}\n",
            "optimizer.gather: expected one of step, use, found 'never'",
        ),
        (
            STAGE + "assign:\n- operators: [a]\n  splits: [batch]\n",
            "line 6: assign.0.splits.0: expected [axis, parts]",
        ),
        (
            STAGE + "assign:\n- operators: [a]\n  phase: sideways\n",
            "line 6: assign.0.phase: expected forward, ",
        ),
        ("stages:\n- devices: [0, 0]\n", "line 2: stages.0.devices: expected different devices"),
        (
            "stages:\n- devices: two\n",
            "line 2: stages.0.devices: expected a list of device numbers, found 'two'",
        ),
        (
            "stages:\n- devices: [0, 1, 2]\n  mesh: {dp: 2}\n",
            "line 3: stages.0.mesh: the mesh has 2 places, the stage has 3 devices",
        ),
        (
            STAGE + "rewrites:\n- {algorithm: 3}\n",
            "p.yaml, line 5: rewrites.0.algorithm: expected a name, found 3",
        ),
        (
            STAGE + "rewrites:\n- {algorithm: ring_attention, options: cp}\n",
            "p.yaml, line 5: rewrites.0.options: expected names and values, found 'cp'",
        ),
        (
            STAGE + "splits:\n- {axis: context, dim: dp, striped: true, uneven: true}\n",
            "p.yaml, line 5: splits.0.striped: expected neither parts nor uneven beside it",
        ),
        (
            STAGE + "schedule: {placement: best}\n",
            "p.yaml, line 4: schedule.placement: expected one of linear, v, looped, free, found "
            "'best'",
        ),
        (
            STAGE + "schedule: {stages_per_device: 0}\n",
            "p.yaml, line 4: schedule.stages_per_device: expected a whole number above 0, found 0",
        ),
        (
            "stages:\n- {devices: [0], first: 3}\n",
            "p.yaml, line 2: stages.0.first: expected an operator's name, found 3",
        ),
        ("stages: [\n", "p.yaml, line 2: not valid YAML"),
        (STAGE + "name: 2024-13-45\n", "p.yaml: not valid YAML: month must be in 1..12"),
        ("[" * 5000, "p.yaml: not valid YAML: maximum recursion depth"),
        (STAGE + "name: [a]\n", "p.yaml, line 4: name: expected a name, found ['a']"),
        (
            STAGE + "microbatches: 2\nname: a\nmicrobatches: 4\n",
            "p.yaml, line 6: microbatches: this key is on line 4 already; leave one of them",
        ),
        (
            "stages:\n- devices: [0, 1]\n  mesh: {dp: 2, dp: 2}\n",
            "p.yaml, line 3: dp: this key is on line 3 already",
        ),
        (
            "stages: [{devices: [0, 1], mesh: {1: 2}}]",
            "stages.0.mesh.1: expected a dim's name, found 1",
        ),
        ("stages: [{devices: [true]}]", "stages.0.devices: expected a device number, found True"),
        (
            "stages: [{devices: [1000000000]}]",
            "stages.0.devices: expected device numbers below 65536, found 1000000000",
        ),
        (
            STAGE + "splits: [{axis: batch, dim: dp, uneven: 'no'}]\n",
            "line 4: splits.0.uneven: expected true or false, found 'no'",
        ),
        (
            STAGE + "splits: [{axis: batch, dim: dp, striped: 1}]\n",
            "splits.0.striped: expected true or false, found 1",
        ),
        (
            STAGE + "splits: [{axis: batch, dim: c, parts: 2, recompute: 'no'}]\n",
            "splits.0.recompute: expected true or false, found 'no'",
        ),
        (STAGE + "optimizer: {split: 3}\n", "optimizer.split: expected a mesh dim's name, found 3"),
        (
            STAGE + "optimizer: {gather: use}\n",
            "line 4: optimizer.gather: 'use' does nothing without split; name the mesh dim",
        ),
        (
            STAGE + "optimizer: {reduce: microbatch}\n",
            "optimizer.reduce: 'microbatch' does nothing without split",
        ),
        (
            STAGE + "offload: {ahead: 4}\n",
            "line 4: offload.ahead: it does nothing where nothing is offloaded; name activations",
        ),
        (
            STAGE + "schedule: {time_limit_s: .nan}\n",
            "schedule.time_limit_s: expected seconds above 0, found nan",
        ),
        (
            STAGE + "assign:\n- operators: [a]\n  splits: 5\n",
            "line 6: assign.0.splits: expected a list of [axis, parts], found 5",
        ),
        (
            STAGE + "assign:\n- operators: [a]\n  splits: [[replicate, 1000000000]]\n",
            "line 6: assign.0.splits.0: expected 65536 parts at most, found 1000000000",
        ),
        (
            STAGE + "assign: [{operators: []}]\n",
            "assign.0.operators: expected at least one pattern",
        ),
        (
            STAGE + "assign: [{operators: [a], devices: one}]\n",
            "line 4: assign.0.devices: expected a device number, found 'one'",
        ),
        (
            STAGE + "assign: [{operators: [a], devices: [[0, 1], [2]]}]\n",
            "assign.0.devices: expected lists of one length, a device for each part, found [[0, 1]",
        ),
        (
            STAGE + "assign: [{operators: [a], devices: &a [*a]}]\n",
            "p.yaml, line 4: this contains itself; write out what is meant",
        ),
        (
            STAGE + "assign: [{operators: [a], devices: [0, 99999999]}]\n",
            "assign.0.devices.1: expected device numbers below 65536, found 99999999",
        ),
        (
            STAGE + "assign: [{operators: [a], uneven: 'no'}]\n",
            "assign.0.uneven: expected true or false, found 'no'",
        ),
    ],
)
def test_malformed(text: str, message: str) -> None:
    with pytest.raises(PlanError) as caught:
        Plan.from_yaml(text, "p.yaml")
    assert message in str(caught.value)


def test_missing_file() -> None:
    with pytest.raises(
        PlanError, match=r"plan 'none\.yaml': no such file, and no shipped plan of that name"
    ):
        Plan.load("none.yaml")


def test_the_name_of_a_plan_that_ships() -> None:
    assert Plan.load("megatron_tp2") == policies.parse_plan("megatron_tp2")
    assert Plan.load("megatron_tp2").num_devices == 2
    with pytest.raises(PlanError, match=r"those that ship: dp2, .*, zero3_2; policy calls such"):
        Plan.load("megatron_tp3")


def test_a_policy_call_is_no_file() -> None:
    with pytest.raises(
        PlanError, match=r"this is a policy call, which superscaler\.policies\.pars"
    ):
        Plan.load("zero(dp=2, stage=3)")
    with pytest.raises(PlanError, match="no such file"):
        Plan.load("x" * 5000)


def test_a_file_goes_before_the_plan_that_ships(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    PLANS[1].save("dp2.yaml")
    assert Plan.load("dp2.yaml") == PLANS[1]
    (tmp_path / "dp2").mkdir()
    assert Plan.load("dp2").num_devices == 2


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_bytes(b"stages: \xff\xfe\x00")
    said = r"plan\.yaml'?: expected a YAML text file, found bytes that are no text"
    for load in (Plan.load, ss.Cluster.load):
        with pytest.raises(PlanError, match=said):
            load(tmp_path / "plan.yaml")


def test_number_of_devices() -> None:
    assert [p.num_devices for p in PLANS] == [2, 4, 2, 8, 4]


# plans that do not fit the graph or the cluster


def refuse(text: str, cluster: ss.Cluster | None = None) -> str:
    with pytest.raises(ss.SuperScalerError) as caught:
        ss.compile(mlp().graph, Plan.from_yaml(text), cluster, axes=mlp().axes)
    return str(caught.value)


def test_no_such_axis() -> None:
    message = refuse(STAGE + "splits: [{axis: batsh, dim: dp}]\n")
    assert (
        "no axis 'batsh' in this graph; expected an axis name or parameter:dim, for example batch"
        in message
    )


def test_no_such_parameter() -> None:
    assert "no axis 'fc9.weight:0' in this graph" in refuse(
        STAGE + "splits: [{axis: 'fc9.weight:0', dim: dp}]\n"
    )


def test_indivisible_split() -> None:
    text = "stages: [{devices: [0, 1, 2], mesh: {dp: 3}}]\nsplits: [{axis: batch, dim: dp}]\n"
    assert refuse(text).startswith(
        "split batch on dp by 3: axis batch has 8 elements, not divisible by 3; use 2, 4, 8"
    )


def test_indivisible_together() -> None:
    text = STAGE + "microbatches: 8\nsplits: [{axis: batch, dim: dp}]\n"
    message = refuse(text)
    assert "split batch on" in message
    assert "by 16: axis batch has 8 elements, not divisible by 16" in message


def test_no_such_mesh_dim() -> None:
    message = refuse(STAGE + "splits: [{axis: batch, dim: tp}]\n")
    assert message == "split batch on 'tp': no stage has such a mesh dim; found dp, mb"


def test_no_such_module() -> None:
    text = "stages:\n- {devices: [0], modules: [layers.0]}\n- {devices: [1], modules: [blocks.*]}\n"
    assert refuse(text).startswith("stage 1: no operator matches blocks.*; the model has ")


def test_no_such_operator() -> None:
    message = refuse(STAGE + "assign: [{operators: [layers.7], devices: 1}]\n")
    assert "no operator matches 'layers.7'; expected module paths or operator names" in message


def test_device_out_of_range() -> None:
    message = refuse("stages: [{devices: [5]}]\n", ss.Cluster(4))
    assert "device 5 is out of range; the cluster has devices 0 to 3; use fewer devices" in message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("zero(dp='2')", r"zero takes a whole number as dp, found '2'"),
        ("zero(dp=True)", r"zero takes a whole number as dp, found True"),
        ("hybrid(recompute=True)", r"hybrid takes a text as recompute, found True"),
        ("offload(hybrid(), batch='no')", r"offload takes True or False as batch, found 'no'"),
        ("coshard(hybrid(), parts=2.5)", r"coshard takes a whole number as parts, found 2.5"),
    ],
)
def test_arguments_of_the_wrong_kind(text: str, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        policies.parse_plan(text)


def test_updates_split_on_no_mesh_dim() -> None:
    plan = Plan.from_yaml("stages: [{devices: [0, 1], mesh: {dp: 2}}]\noptimizer: {split: nope}")
    with pytest.raises(PlanError, match=r"split 'nope': no stage has such a mesh dim; .* dp"):
        mlp().compile(plan)

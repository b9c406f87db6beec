"""Policies: the plans they make, and policy calls as text."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

from superscaler import policies
from superscaler.errors import PlanError
from superscaler.plan import PlanOptimizer, PlanSplit, PlanStage
from superscaler.policies import parse_plan
from superscaler.policies.parse import POLICIES


def test_data_parallel() -> None:
    plan = policies.data_parallel(dp=3)
    assert plan.stages == (PlanStage((0, 1, 2), {"dp": 3}),)
    assert plan.splits == (PlanSplit("batch", "dp"),)
    assert (plan.microbatches, plan.order) == (1, "none")


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        (1, PlanOptimizer("dp", "step", "step")),
        (2, PlanOptimizer("dp", "step", "microbatch")),
        (3, PlanOptimizer("dp", "use", "microbatch")),
    ],
)
def test_zero(stage: int, expected: PlanOptimizer) -> None:
    assert policies.zero(dp=2, stage=stage).optimizer == expected


def test_one_device_shards_nothing() -> None:
    assert policies.zero(dp=1, stage=3) == policies.data_parallel(dp=1)


def test_one_microbatch_keeps_what_an_order_does_to_it() -> None:
    text = "F0.0 B0.0\nF1.0 B1.0"
    assert policies.interlaced(2, 1, "embed", order=text).order == text
    assert policies.pipeline(2, 1, order="auto").order == "auto"
    assert policies.pipeline(2, 1, order="zb_h1").order == "zb_h1"
    assert policies.pipeline(2, 1, order="gpipe").order == "none"


def test_looped_orders_take_two_stages_a_device() -> None:
    for order in ("interleaved", "breadth_first"):
        plan = policies.pipeline(pp=2, microbatches=4, order=order)
        assert [s.devices for s in plan.stages] == [(0,), (1,), (0,), (1,)]


def test_both_directions_with_the_sequence_split() -> None:
    plan = policies.context_parallel(cp=2, pp=2, microbatches=2, order="chimera")
    assert plan.stages[0].mesh == {"way": 2, "cp": 2}
    assert plan.splits[0] == PlanSplit("batch", "way")


def test_a_mesh_that_does_not_fit_its_devices() -> None:
    with pytest.raises(PlanError, match=r"has 4 places, the stage has 2 devices"):
        PlanStage((0, 1), {"dp": 2, "tp": 2})


def test_megatron() -> None:
    axes = [s.axis for s in policies.megatron(tp=2, sequence_parallel=True).splits]
    assert axes == ["auto", "sequence"]


def test_hybrid_numbers_the_devices_stage_by_stage() -> None:
    plan = policies.hybrid(dp=2, tp=2, pp=2, microbatches=4)
    assert [s.devices for s in plan.stages] == [(0, 1, 2, 3), (4, 5, 6, 7)]
    assert plan.stages[0].mesh == {"dp": 2, "tp": 2}
    assert plan.order == "1f1b"


@pytest.mark.parametrize("arguments", [{"dp": 0}, {"pp": -1}, {"zero": 4}, {"order": "zigzag"}])
def test_numbers_out_of_range(arguments: dict[str, object]) -> None:
    with pytest.raises(PlanError, match="hybrid: expected"):
        policies.hybrid(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("interlaced(pp=0, microbatches=2, embedding='e')", "interlaced: expected pp of 1 or more"),
        (
            "interlaced(pp=2, microbatches=0, embedding='e')",
            "interlaced: expected microbatches of 1 or more, found 0",
        ),
        (
            "interlaced(pp=2, microbatches=2, embedding='e', zero=4)",
            "interlaced: expected a ZeRO stage from 0 to 3, found 4",
        ),
        (
            "three_f_one_b(pp=2, microbatches=2, layers='l', count=2, zero=-1)",
            "three_f_one_b: expected a ZeRO stage from 0 to 3, found -1",
        ),
        ("interlaced(pp=2, microbatches=2, embedding='e', dp=0)", "interlaced: expected dp of 1"),
        (
            "interlaced(pp=2, microbatches=2, embedding='e', order='zigzag')",
            "interlaced: expected one of gpipe",
        ),
        (
            "interlaced(pp=2, microbatches=2, embedding='')",
            "interlaced: expected embedding to name modules, found ''",
        ),
        (
            "three_f_one_b(pp=0, microbatches=2, layers='l', count=4)",
            "three_f_one_b: expected pp of 1 or more, found 0",
        ),
        (
            "three_f_one_b(pp=2, microbatches=-1, layers='l', count=4)",
            "three_f_one_b: expected microbatches of 1 or more, found -1",
        ),
        ("three_f_one_b(pp=1, microbatches=2, layers='l', count=4, dp=0)", "expected dp of 1"),
        ("three_f_one_b(pp=2, microbatches=2, layers='', count=4)", "expected layers to name modu"),
        (
            "three_f_one_b(pp=2, microbatches=2, layers='l', count=1000000000)",
            "three_f_one_b: count=1000000000: expected a product of at most 65536",
        ),
        ("context_parallel(cp=2, dp=0)", "context_parallel: expected dp of 1 or more, found 0"),
        ("data_parallel(dp=0)", "data_parallel: expected dp of 1 or more, found 0"),
        ("zero(dp=-1)", "zero: expected dp of 1 or more, found -1"),
        ("zero(dp=2, stage=5)", "zero: expected stage 1, 2 or 3, found 5"),
        ("zero(dp=2, stage=0)", "zero: expected stage 1, 2 or 3, found 0; see data_parallel"),
        ("megatron(tp=0)", "megatron: expected tp of 1 or more, found 0"),
        (
            "pipeline(pp=2, microbatches=2, placement='ring')",
            "pipeline: expected placement linear (1 stage a device), looped, v",
        ),
        ("pipeline(pp=2, microbatches=2, order='zigzag')", "pipeline: expected one of gpipe"),
        (
            "bidirectional(pp=3, microbatches=2)",
            "bidirectional: both directions at once take an even pp, with 1 stage a device; found "
            "pp=3 with 1",
        ),
        ("bidirectional(pp=2, microbatches=2, zero=4)", "bidirectional: expected a ZeRO stage fr"),
        ("context_parallel(cp=2, zero=9)", "context_parallel: expected a ZeRO stage from 0 to 3"),
        (
            "bidirectional(pp=2, microbatches=0)",
            "bidirectional: expected microbatches of 1 or more, found 0",
        ),
        (
            "hybrid(dp=100000, tp=8)",
            "hybrid: dp=100000 x tp=8: expected a product of at most 65536, found 800000",
        ),
        (
            "hybrid(pp=2, stages_per_device=1000000000, microbatches=2)",
            "hybrid: pp=2 x stages_per_device=1000000000: expected a product",
        ),
        ("coshard(hybrid(), parts=2, axes='')", "coshard: expected axes to name at least one"),
        ("megatron(tp=1, sequence_parallel=True)", "expected tp of 2 or more, found 1; leave it"),
        ("context_parallel(cp=1, ring=True)", "context_parallel: ring is about the parts of the"),
        (
            "context_parallel(cp=1, dp=2, striped=True)",
            "striped is about the parts of the sequence",
        ),
        ("offload(hybrid(), ahead=8)", "offload: ahead is 8; it does nothing where nothing is off"),
        ("offload(hybrid(), ahead='auto')", "offload: ahead is 'auto'; it does nothing where"),
        (
            "vocabulary_parallel(zero(dp=2), embedding='')",
            "vocabulary_parallel: expected embedding to name modules, found ''",
        ),
    ],
)
def test_arguments_that_make_no_plan(text: str, message: str) -> None:
    with pytest.raises(PlanError) as caught:
        parse_plan(text)
    assert message in str(caught.value)


def test_calls_as_text() -> None:
    assert parse_plan("zero(dp=2, stage=3)") == policies.zero(dp=2, stage=3)
    assert parse_plan(" pipeline(pp=2, microbatches=4, order='gpipe') ").order == "gpipe"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("zeroo(dp=2)", "no policy 'zeroo'; known: bidirectional, "),
        ("zero(2)", "zero takes its arguments by name: dp, stage"),
        ("coshard(3, parts=2)", "coshard takes a policy call as plan, found 3"),
        ("zero(dp=zero(dp=2))", "zero takes a value as dp, found 'a policy call'"),
        ("coshard(zoro(dp=2), parts=2)", "no policy 'zoro'"),
        ("zero(dp=x)", "expected a call with numbers and texts"),
        ("zero(dp=2", "expected a call with numbers and texts"),
        ("zero(level=2)", "zero has no argument 'level'; it takes dp, stage"),
        ("pipeline(pp=2)", "pipeline needs microbatches"),
        ("", "plan '': expected a YAML file, the name of a plan that ships, or a policy call"),
        ("zero(**{})", "zero takes its arguments by name: dp, stage"),
        ("coshard(*[1], parts=2)", "coshard takes its arguments by name: plan, parts"),
        ("zero(dp=2, dp=4)", "zero has dp 2 times; leave one of them"),
        ("offload(zero(dp=2), plan=zero(dp=4))", "offload has plan 2 times"),
        ("zero(dp={[]: 1})", "expected a call with numbers and texts"),
        ("zero(dp=2)\0", "expected a call with numbers and texts"),
        ("nowhere.yaml", "no such file, and no shipped plan of that name; those"),
    ],
)
def test_wrong_text(text: str, message: str) -> None:
    with pytest.raises(PlanError) as caught:
        parse_plan(text)
    assert message in str(caught.value)


def test_policies_are_short_and_use_what_anybody_can_use() -> None:
    for name, policy in POLICIES.items():
        assert len(inspect.getsource(policy).splitlines()) <= 80, name
    for path in Path(policies.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("superscaler"):
                allowed = ("superscaler.plan", "superscaler.errors", "superscaler.policies")
                assert str(node.module).startswith(allowed), f"{path.name}: {node.module}"

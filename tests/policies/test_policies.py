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
        (0, PlanOptimizer()),
        (1, PlanOptimizer("dp", "step", "step")),
        (2, PlanOptimizer("dp", "step", "microbatch")),
        (3, PlanOptimizer("dp", "use", "microbatch")),
    ],
)
def test_zero(stage: int, expected: PlanOptimizer) -> None:
    assert policies.zero(dp=2, stage=stage).optimizer == expected


def test_one_device_shards_nothing() -> None:
    assert policies.zero(dp=1, stage=3) == policies.data_parallel(dp=1)


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
        ("nowhere.yaml", "no such file; give a YAML file or a policy"),
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

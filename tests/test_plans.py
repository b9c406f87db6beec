"""The plans and clusters that ship: each loads, compiles on its example, and verifies."""

from __future__ import annotations

import json
import re
from dataclasses import MISSING, fields
from pathlib import Path

import pytest
import torch

import superscaler as ss
from superscaler.graph.graph import Graph
from superscaler.plan import plan as plans
from superscaler.verify import Expected, expect, verify_program
from superscaler.workload import cast

ROOT = Path(__file__).parent.parent
PLANS = sorted((ROOT / "plans").glob("*.yaml"))
EXPERT_PLANS = sorted((ROOT / "plans").glob("expert_*.yaml"))  # those for examples/moe_gpt.py
CLUSTERS = sorted((ROOT / "plans" / "clusters").glob("*.yaml"))


@pytest.fixture(scope="module")
def workload() -> ss.Workload:
    sizes = {"layers": 3, "hidden": 16, "seq": 8, "batch": 8, "dropout": 0.1}
    gpt = ss.load_workload(f"{ROOT}/examples/gpt.py:workload", sizes)
    return cast(gpt, torch.float64)


@pytest.fixture(scope="module")
def graph(workload: ss.Workload) -> Graph:
    return ss.trace(workload.step, workload.model, workload.batch, workload.optimizer)


@pytest.fixture(scope="module")
def expected(workload: ss.Workload) -> Expected:
    return expect(workload, 2)


@pytest.mark.parametrize(
    "path", [p for p in PLANS if p not in EXPERT_PLANS], ids=lambda path: path.stem
)
def test_a_shipped_plan_verifies(
    path: Path, workload: ss.Workload, graph: Graph, expected: Expected
) -> None:
    program = ss.compile(graph, ss.Plan.load(path))
    report = verify_program(workload, program.files, expected=expected, processes=False)
    assert report.ok, report.summary


@pytest.mark.parametrize("path", EXPERT_PLANS, ids=lambda path: path.stem)
def test_a_shipped_plan_for_experts_verifies(path: Path) -> None:
    moe = ss.load_workload(f"{ROOT}/examples/moe_gpt.py:workload", {"experts": 8})
    plan = ss.Plan.load(path)
    assert ss.verify(moe, plan, processes=False).ok


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.stem)
def test_a_shipped_plan_is_found_by_its_name(path: Path) -> None:
    plan = ss.policies.parse_plan(path.stem)
    assert plan == ss.Plan.load(path)
    assert plan.name == path.stem
    assert ss.Plan.from_yaml(plan.to_yaml()) == plan


@pytest.mark.parametrize("path", CLUSTERS, ids=lambda path: path.stem)
def test_a_shipped_cluster_is_found_by_its_name(path: Path, graph: Graph) -> None:
    cluster = ss.Cluster.load(path.stem)
    assert cluster.name == path.stem
    assert ss.compile(graph, "megatron_tp2", cluster).world_size == 2


def test_a_policy_may_be_a_function(graph: Graph) -> None:
    program = ss.compile(graph, ss.start)
    assert program.world_size == 1


def test_a_partition_of_another_graph_is_refused(workload: ss.Workload, graph: Graph) -> None:
    single = cast(workload, torch.float32)
    other = ss.trace(single.step, single.model, single.batch, single.optimizer)
    with pytest.raises(ss.SuperScalerError, match="the partition is of another graph"):
        ss.compile(graph, ss.start(other))


KINDS = {
    "Plan": plans.Plan,
    "stages": plans.PlanStage,
    "splits": plans.PlanSplit,
    "optimizer": plans.PlanOptimizer,
    "rewrites": plans.PlanRewrite,
    "assign": plans.PlanAssign,
    "schedule": plans.PlanSchedule,
    "offload": plans.PlanOffload,
}


def reference() -> dict[str, str]:
    """The sections of plans/README.md, by heading."""
    text = (ROOT / "plans" / "README.md").read_text()
    parts = re.split(r"^## (.*)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2]))


def default(field: object) -> str:
    """A field's default as the reference has it."""
    value, factory = field.default, field.default_factory
    if value is MISSING:
        return "" if factory is MISSING else "{}"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return json.dumps(value)
    return "{}" if type(value) in KINDS.values() else str(value) or '""'


@pytest.mark.parametrize("kind", KINDS)
def test_the_reference_has_every_key_and_its_default(kind: str) -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.*?) ?\| \S", reference()[kind], re.MULTILINE)
    known = {f.name: default(f) for f in fields(KINDS[kind])}
    assert dict(rows) == known


def test_the_reference_plan_verifies(
    workload: ss.Workload, graph: Graph, expected: Expected
) -> None:
    text = reference()["A plan with many of them"]
    plan = ss.Plan.from_yaml(re.search(r"```yaml\n(.*?)```", text, re.DOTALL).group(1))
    report = verify_program(
        workload, ss.compile(graph, plan).files, expected=expected, processes=False
    )
    assert report.ok, report.summary

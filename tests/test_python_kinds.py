"""Python calls with a cluster's name, or with values of the wrong kind: a PlanError each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from subjects import mlp

import superscaler as ss
from superscaler import policies
from superscaler.errors import PlanError, SuperScalerError


def test_a_clusters_name_or_file_is_a_cluster(tmp_path: Path) -> None:
    file = tmp_path / "two.yaml"
    file.write_text("num_devices: 2\nname: two\n")
    subject = mlp()
    named = ss.compile(subject.graph, "zero(dp=2)", "h100x8", axes=subject.axes)
    assert named.cluster == ss.Cluster.load("h100x8")
    assert named.simulate("a100x16").cluster == "a100x16"
    assert named.simulate(file).cluster == named.simulate(str(file)).cluster == "two"
    step = ss.parallelize("zero(dp=2)", torch.optim.SGD, cluster="h100x8")(mlp().workload.step)
    assert step.cluster == ss.Cluster.load("h100x8")
    found = ss.verify(subject.workload, "zero(dp=2)", cluster="h100x8", processes=False, timeout=20)
    assert found.ok


@pytest.mark.parametrize(
    ("cluster", "message"),
    [("moon", "no shipped cluster of that name; those"), (3, "expected a Cluster, its file, or")],
)
def test_what_is_no_cluster(cluster: Any, message: str) -> None:
    subject = mlp()
    with pytest.raises(PlanError, match=message):
        ss.compile(subject.graph, "zero(dp=2)", cluster, axes=subject.axes)
    with pytest.raises(PlanError, match=message):
        ss.parallelize("zero(dp=2)", torch.optim.SGD, cluster=cluster)(mlp().workload.step)


def test_a_plans_file_as_a_path(tmp_path: Path) -> None:
    policies.zero(dp=2).save(tmp_path / "p.yaml")
    subject = mlp()
    by_path = ss.compile(subject.graph, tmp_path / "p.yaml", axes=subject.axes)
    assert by_path.files == subject.compile("zero(dp=2)").files


def test_what_is_no_plan() -> None:
    subject = mlp()
    found = "expected a plan, its file, a policy call as text, a partition, or a function from a"
    for plan in (3, lambda graph: None):
        with pytest.raises(PlanError, match=found):
            subject.compile(plan)  # type: ignore[arg-type]
    wrong: Any = 3
    step = ss.parallelize(wrong, torch.optim.SGD)(mlp().workload.step)
    with pytest.raises(SuperScalerError, match="expected a plan, its file, or a policy call as t"):
        step.prepare(mlp().workload.model, mlp().workload.batch)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("data_parallel", {"dp": 2.0}, "data_parallel takes a whole number as dp, found 2.0"),
        ("data_parallel", {"dp": "2"}, "data_parallel takes a whole number as dp, found '2'"),
        ("hybrid", {"recompute": 3}, "hybrid takes a text as recompute, found 3"),
        ("megatron", {"tp": 2, "sequence_parallel": 1}, "megatron takes True or False as sequence"),
        ("coshard", {"plan": "zero(dp=2)", "parts": 2}, "takes a plan as plan, found 'zero.dp=2.'"),
        ("offload", {"plan": 3}, "offload takes a plan as plan, found 3"),
        ("interlaced", {"pp": 2, "microbatches": None, "embedding": "e"}, "whole number as microb"),
        ("context_parallel", {"cp": True}, "context_parallel takes a whole number as cp, found Tr"),
    ],
)
def test_arguments_of_policies(name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        getattr(policies, name)(**arguments)


def test_arguments_by_position() -> None:
    with pytest.raises(PlanError, match="zero takes a whole number as stage, found 'x'"):
        policies.zero(2, "x")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="unexpected keyword argument 'depth'"):
        policies.zero(2, depth=3)  # type: ignore[call-arg]

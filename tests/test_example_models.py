"""The models of `examples/` at toy size, in float64, under every form of parallelism; experts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import superscaler as ss
from superscaler.graph.graph import Graph
from superscaler.trace.axes import infer_axes
from superscaler.verify import expect, verify_program
from superscaler.workload import cast, load_workload

ROOT = Path(__file__).parent.parent
PLANS = (
    "data_parallel(dp=2)",
    "zero(dp=2, stage=3)",
    "megatron(tp=2)",
    "pipeline(pp=2, microbatches=2)",
    "hybrid(dp=2, tp=2)",
    "hybrid(tp=2, pp=2, microbatches=2, zero=1)",
)
RECYCLING = (
    "three_f_one_b(pp=2, microbatches=4, layers='blocks', count=2, first='embedder', "
    "last='masked_msa distogram')"
)
MODELS = {
    "evoformer": (*PLANS, RECYCLING),
    "moe_gpt": (*PLANS, "expert_parallel2"),
    "swin": PLANS,
    "mbart": PLANS,
    "t5": PLANS,
    "dit": PLANS,
}
SMALLER = {"evoformer": {"cycles": "2"}, "swin": {"layers": "7"}}
PUBLISHED = {
    "evoformer": {"config": "s512_r384", "blocks": "1", "cycles": "2"},
    "moe_gpt": {"config": "moe_52b", "layers": "2"},
    "swin": {"config": "l32", "layers": "7"},
    "mbart": {"config": "vocab_1500k", "layers": "1"},
    "t5": {"config": "vocab_1500k", "layers": "1"},
    "dit": {"config": "xl2_512", "layers": "1"},
    "gpt": {"config": "l48_h5120", "layers": "1", "seq": "12288"},
}


def load(model: str, **settings: str) -> ss.Workload:
    return load_workload(f"{ROOT}/examples/{model}.py:workload", settings)


def traced(workload: ss.Workload) -> Graph:
    return ss.trace(workload.step, workload.model, workload.batch, workload.optimizer)


@pytest.mark.parametrize("model", MODELS)
def test_every_plan_trains_as_one_device_does(model: str) -> None:
    workload = cast(load(model, **SMALLER.get(model, {})), torch.float64)
    graph = traced(workload)
    axes = infer_axes(graph)
    assert not [op.name for op in graph.operators if not axes.operators[op.id].has_rule]
    expected = expect(workload, 2)
    for plan in MODELS[model]:
        program = ss.compile(graph, plan, axes=axes)
        report = verify_program(workload, program.files, expected=expected, processes=False)
        assert report.ok, f"{model} under {plan}: {report.summary}"


@pytest.mark.parametrize("model", PUBLISHED)
def test_published_widths_are_traced_and_split_without_memory(model: str) -> None:
    workload = load(model, meta="true", **PUBLISHED[model])
    assert all(p.is_meta for p in workload.model.parameters())
    graph = traced(workload)
    assert ss.compile(graph, "hybrid(dp=2, tp=2)").world_size == 4


@pytest.mark.parametrize("model", MODELS)
def test_an_unknown_config_is_refused(model: str) -> None:
    with pytest.raises(ss.SuperScalerError, match="config is 'huge', expected one of toy, "):
        load(model, config="huge")


def conversions(workload: ss.Workload, plan: str) -> dict[str, int]:
    """How many collectives of each kind the code of a plan has."""
    code = ss.compile(traced(workload), plan).files["program_0.py"]
    found = re.findall(r"ctx\.(all_to_all|all_gather|reduce_scatter)\w*\(", code)
    return {kind: found.count(kind) for kind in found}


def test_split_experts_exchange_tokens_all_to_all() -> None:
    """There and back for each mixture, in the forward and in the backward; nothing is gathered."""
    assert conversions(load("moe_gpt"), "expert_parallel2") == {"all_to_all": 4}
    switch = load("moe_gpt", config="toy_switch")
    assert conversions(switch, "expert_parallel2") == {"all_to_all": 8}


def test_experts_rest_where_they_work() -> None:
    graph = traced(load("moe_gpt"))
    dense = ss.compile(graph, "data_parallel(dp=2)").files["rank_0.py"]
    split = ss.compile(graph, "expert_parallel2").files["rank_0.py"]
    for weight in ("w1", "w2"):
        (line,) = [x for x in split.splitlines() if f"'name': 'layers.1.moe.experts.{weight}'" in x]
        assert "((0, 2),)" in line  # two of four experts
        assert line not in dense


@pytest.mark.dist
def test_experts_on_gloo_processes() -> None:
    assert ss.verify(load("moe_gpt"), "expert_parallel2").ok


@pytest.mark.dist
def test_recycling_on_gloo_processes() -> None:
    assert ss.verify(load("evoformer", blocks="1", cycles="2"), "hybrid(dp=2, tp=2)").ok

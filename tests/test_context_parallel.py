"""Context parallelism: sequences split through attention agree with one process."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import superscaler as ss
from superscaler.graph.graph import Graph
from superscaler.policies import context_parallel
from superscaler.verify import Expected, expect, verify_program
from superscaler.workload import cast

ROOT = Path(__file__).parent.parent
Case = tuple[ss.Workload, Graph, Expected]


def case(example: str, **sizes: object) -> Case:
    workload = cast(ss.load_workload(f"{ROOT}/examples/{example}", sizes), torch.float64)
    graph = ss.trace(workload.step, workload.model, workload.batch, workload.optimizer)
    return workload, graph, expect(workload, 1)


@pytest.fixture(scope="module")
def gpt() -> Case:
    """Three heads, causal."""
    return case("gpt.py:workload", layers=2, hidden=24, heads=3, seq=12, batch=4)


@pytest.fixture(scope="module")
def llama() -> Case:
    """Six heads on two of keys and values, rotary positions."""
    sizes = {"layers": 1, "hidden": 48, "ffn": 32, "heads": 6, "kv_heads": 2, "seq": 12, "batch": 2}
    return case("llama_hf.py:workload", **sizes)


def agrees(case: Case, plan: ss.Plan) -> None:
    workload, graph, expected = case
    program = ss.compile(graph, plan)
    report = verify_program(workload, program.files, expected=expected, processes=False)
    assert report.ok, report.summary


@pytest.mark.parametrize(
    "plan",
    [
        context_parallel(cp=3),
        context_parallel(cp=2, dp=2),
        context_parallel(cp=2, pp=2, microbatches=2),
        context_parallel(cp=4, zero=3),
        context_parallel(cp=5, uneven=True),
    ],
    ids=["cp", "dp", "pp", "zero", "uneven"],
)
def test_gathered_keys_and_values_agree_with_one_process(gpt: Case, plan: ss.Plan) -> None:
    agrees(gpt, plan)


def test_rotary_positions_and_grouped_heads_agree_with_one_process(llama: Case) -> None:
    agrees(llama, context_parallel(cp=2, tp=2))


def test_a_sequence_that_cannot_be_split_is_refused(gpt: Case) -> None:
    with pytest.raises(ss.SuperScalerError, match=r"split context on cp by 5.*not divisible by 5"):
        ss.compile(gpt[1], context_parallel(cp=5))


def test_a_model_without_attention_is_refused() -> None:
    step = lambda model, batch: model(batch["x"]).sum()  # noqa: E731
    graph = ss.trace(step, torch.nn.Linear(4, 4), {"x": torch.randn(4, 4)}, torch.optim.SGD)
    with pytest.raises(ss.SuperScalerError, match="no operator is an attention"):
        ss.compile(graph, context_parallel(cp=2))

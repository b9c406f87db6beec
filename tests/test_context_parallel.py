"""Context parallelism: sequences split through attention agree with one process."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

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


def agrees(case: Case, plan: ss.Plan, processes: bool = False) -> None:
    workload, graph, expected = case
    program = ss.compile(graph, plan)
    report = verify_program(workload, program.files, expected=expected, processes=processes)
    assert report.ok, report.summary


class Looks(torch.nn.Module):
    """Three heads on one of keys and values, that look everywhere but where `mask` says no."""

    def __init__(self) -> None:
        super().__init__()
        self.project = torch.nn.Linear(8, 20)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        heads = self.project(x).unflatten(2, (5, 4)).transpose(1, 2)
        q, k, v = heads.split([3, 1, 1], 1)
        return scaled_dot_product_attention(q, k, v, mask, enable_gqa=True)


def look(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    return model(batch["x"], batch.get("mask")).pow(2).mean()


def looks(with_mask: bool) -> Case:
    torch.manual_seed(0)
    batch = {"x": torch.randn(2, 12, 8, dtype=torch.float64)}
    if with_mask:  # the first query looks nowhere, the second at the last key only
        batch["mask"] = torch.ones(12, 12, dtype=torch.bool).tril(-1)
        batch["mask"][1] = torch.arange(12) == 11
    sgd = lambda parameters: torch.optim.SGD(parameters, lr=0.1)  # noqa: E731
    workload = ss.Workload(look, Looks().double(), sgd, batch)
    graph = ss.trace(look, workload.model, batch, sgd)
    return workload, graph, expect(workload, 1)


PLANS = {
    "cp": {"cp": 3},
    "dp": {"cp": 2, "dp": 2},
    "pp": {"cp": 2, "pp": 2, "microbatches": 2},
    "zero": {"cp": 4, "zero": 3},
    "uneven": {"cp": 5, "uneven": True},
    "recompute": {"cp": 2, "recompute": "layers.*.attention"},
    "striped": {"cp": 3, "striped": True},
    "striped, dp": {"cp": 2, "dp": 2, "striped": True},
    "striped, pp": {"cp": 2, "pp": 2, "microbatches": 2, "order": "zb_h1", "striped": True},
}


@pytest.mark.parametrize("ring", [False, True], ids=["gathered", "ring"])
@pytest.mark.parametrize("name", PLANS)
def test_split_sequences_agree_with_one_process(gpt: Case, name: str, ring: bool) -> None:
    agrees(gpt, context_parallel(**PLANS[name], ring=ring))


@pytest.mark.parametrize("ring", [False, True], ids=["gathered", "ring"])
def test_rotary_positions_and_grouped_heads(llama: Case, ring: bool) -> None:
    agrees(llama, context_parallel(cp=2, tp=2, ring=ring))
    agrees(llama, context_parallel(cp=2, ring=ring, striped=True))


@pytest.mark.parametrize("with_mask", [False, True], ids=["full", "mask"])
def test_a_ring_without_causality(with_mask: bool) -> None:
    for count in (2, 3, 4):
        agrees(looks(with_mask), context_parallel(cp=count, ring=True))


def test_a_ring_with_dropout() -> None:
    found = case("gpt.py:workload", layers=1, hidden=24, heads=3, seq=12, batch=2, dropout=0.3)
    agrees(found, context_parallel(cp=3, ring=True))
    agrees(found, context_parallel(cp=2, ring=True, striped=True))


@pytest.mark.dist
def test_a_ring_of_processes() -> None:
    found = case("gpt.py:workload", layers=1, hidden=24, heads=3, seq=12, batch=2)
    agrees(found, context_parallel(cp=3, ring=True), processes=True)


def test_a_sequence_that_cannot_be_split_is_refused(gpt: Case) -> None:
    with pytest.raises(ss.SuperScalerError, match=r"split context on cp by 5.*not divisible by 5"):
        ss.compile(gpt[1], context_parallel(cp=5))


def test_a_split_of_what_each_head_puts_out(gpt: Case) -> None:
    """Blocks need it whole, whatever the plan says of attention."""
    text = """
stages: [{devices: [0, 1, 2, 3], mesh: {cp: 2, tp: 2}}]
splits:
- {axis: context, dim: cp}
- {axis: "layers.*.attention.value.weight:0.1", dim: tp}
rewrites: [{algorithm: ring_attention}]
"""
    agrees(gpt, ss.Plan.from_yaml(text))


def test_stripes_that_do_not_come_out_even_are_refused(gpt: Case) -> None:
    with pytest.raises(ss.SuperScalerError, match=r"split context on cp by 5.*not divisible by 5"):
        ss.compile(gpt[1], context_parallel(cp=5, striped=True))


def test_a_model_without_attention_is_refused() -> None:
    step = lambda model, batch: model(batch["x"]).sum()  # noqa: E731
    graph = ss.trace(step, torch.nn.Linear(4, 4), {"x": torch.randn(4, 4)}, torch.optim.SGD)
    with pytest.raises(ss.SuperScalerError, match="no operator is an attention"):
        ss.compile(graph, context_parallel(cp=2))

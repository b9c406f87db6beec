"""Calls of one module that do not wait for each other share a pipeline's stages."""

from __future__ import annotations

from collections import defaultdict

import pytest
import torch
from subjects import Subject, gpt, traced
from torch import Tensor, nn

import superscaler as ss
from superscaler.transform.calls import side_by_side
from superscaler.transform.stages import assign_stages, forward_operators

PIPELINE = "hybrid(pp=2, microbatches=2)"


def siamese(autocast: bool = False) -> Subject:
    """One encoder on either half of a batch, one after the other."""
    torch.manual_seed(0)
    dtype = torch.float32 if autocast else torch.float64
    model = nn.Sequential(*(nn.Sequential(nn.Linear(8, 8), nn.Tanh()) for _ in range(6))).to(dtype)

    def step(model: nn.Module, batch: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            first, second = batch.chunk(2)
            return (model(first) - model(second)).float().square().mean()

    batch = torch.randn(8, 8, dtype=dtype)
    return traced(ss.Workload(step, model, lambda p: torch.optim.SGD(p, lr=0.1), batch))


def stages_of_parameters(toy: Subject, plan: str) -> dict[str, set[int]]:
    """The stages whose forwards read each parameter."""
    stage = assign_stages(toy.graph, toy.axes, ss.policies.parse_plan(plan))
    found = defaultdict(set)
    for op in forward_operators(toy.graph):
        for t in toy.graph.operators[op].inputs:
            found[toy.graph.tensors[t].name].add(stage[op])
    names = [toy.graph.tensors[u.param].name for u in toy.graph.updates]
    return {name: found[name] for name in names}


@pytest.mark.parametrize("autocast", [False, True])
def test_each_parameter_is_in_one_stage(autocast: bool) -> None:
    found = stages_of_parameters(siamese(autocast), PIPELINE)
    assert set(map(frozenset, found.values())) == {frozenset({0}), frozenset({1})}


@pytest.mark.parametrize("pp", [3, 4])
def test_cuts_do_not_part_calls_of_one_operator(pp: int) -> None:
    found = stages_of_parameters(siamese(), f"hybrid(pp={pp}, microbatches=2)")
    assert all(len(stages) == 1 for stages in found.values())
    assert set().union(*found.values()) == set(range(pp))


def test_a_siamese_pipeline_trains_the_same_model() -> None:
    toy = siamese()
    assert toy.check(toy.compile(PIPELINE).files).ok


def recycled(also_on_batch: bool) -> Subject:
    """The same block on its own output, and a head on that, and on the batch."""
    torch.manual_seed(0)
    model = nn.ModuleDict({"body": nn.Linear(8, 8), "head": nn.Linear(8, 1)}).double()

    def step(model: nn.Module, batch: Tensor) -> Tensor:
        found = model["body"](model["body"](batch).tanh())
        out = model["head"](found)
        return (out + model["head"](batch) if also_on_batch else out).square().mean()

    batch = torch.randn(8, 8, dtype=torch.float64)
    return traced(ss.Workload(step, model, lambda p: torch.optim.SGD(p, lr=0.1), batch))


def test_what_waits_for_the_first_call_stays_after_it() -> None:
    graph = recycled(also_on_batch=True).graph
    forward = forward_operators(graph)
    found = side_by_side(graph, forward).order
    place = {op: i for i, op in enumerate(found)}
    assert sorted(found) == sorted(forward)
    assert found != forward  # the head on the batch comes with that on the body
    for op in forward:
        makers = [graph.producer[t][0] for t in graph.operators[op].inputs if t in graph.producer]
        assert all(place[m] < place[op] for m in makers)


def test_a_model_without_such_calls_keeps_its_order() -> None:
    for toy in (gpt(), recycled(also_on_batch=False)):
        forward = forward_operators(toy.graph)
        assert side_by_side(toy.graph, forward).order is forward

"""Cuts: stages that begin where the plan says, and where a stage may well begin."""

from __future__ import annotations

import pytest
from subjects import gpt, mlp

from superscaler.errors import PlanError
from superscaler.plan import Plan, PlanStage
from superscaler.transform.cuts import cheap_cuts
from superscaler.transform.stages import assign_stages, forward_operators


def names() -> list[str]:
    graph = mlp().graph
    return [graph.operators[op].name for op in forward_operators(graph)]


def test_a_stage_begins_with_the_operator_it_names() -> None:
    toy, forward = mlp(), names()
    stages = (PlanStage((0,)), PlanStage((1,), first=forward[2]), PlanStage((0,), first=forward[5]))
    found = assign_stages(toy.graph, toy.axes, Plan(stages))
    cut = [found[op] for op in forward_operators(toy.graph)]
    assert cut == [0] * 2 + [1] * 3 + [2] * (len(cut) - 5)


@pytest.mark.parametrize(
    ("firsts", "message"),
    [
        (("", "", 3), "stage 1: expected `first` on every stage but stage 0"),
        (("", "heat"), "stage 1: no forward operator is named heat; there are"),
        (("", 4, 2), "is not after the operator that stage 1 begins with; give the stages as"),
        (("", 0), "is not after the operator that stage 0 begins with"),
        ((2, 4), "is not the forward's first operator; leave `first` out"),
        (("heat", 3), "stage 0: no forward operator is named heat"),
    ],
)
def test_wrong_firsts(firsts: tuple[str | int, ...], message: str) -> None:
    toy = mlp()
    texts = [names()[f] if isinstance(f, int) else f for f in firsts]
    plan = Plan(tuple(PlanStage((d,), first=text) for d, text in enumerate(texts)))
    with pytest.raises(PlanError) as caught:
        assign_stages(toy.graph, toy.axes, plan)
    assert message in str(caught.value)


def test_first_beside_modules() -> None:
    toy = mlp()
    stages = (PlanStage((0,), modules=("layers.0",)), PlanStage((1,), first=names()[3]))
    with pytest.raises(PlanError, match="stage 0: expected `first` on every stage but stage 0"):
        assign_stages(toy.graph, toy.axes, Plan(stages))


def test_cheap_cuts_are_between_the_branches_of_a_transformer() -> None:
    """Where attention and feed-forward begin, only the residual stream crosses."""
    toy = gpt(layers=4)
    forward = forward_operators(toy.graph)
    cuts = cheap_cuts(toy.graph, toy.axes, forward, 2, 32)
    assert len(cuts) >= 7
    found = [toy.graph.operators[op] for op in cuts]
    assert cuts == sorted(cuts)
    inner = [op for op in found if op.name.rpartition(".")[0].count(".") > 2]
    assert not inner, [op.name for op in inner]


def test_there_are_no_more_pieces_than_asked_for() -> None:
    toy = gpt(layers=4)
    forward = forward_operators(toy.graph)
    for most in (2, 3, 5, 8):
        assert len(cheap_cuts(toy.graph, toy.axes, forward, 2, most)) < most

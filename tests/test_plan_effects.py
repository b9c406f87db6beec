"""Plans that ask for something without any effect on the model at hand are refused."""

from __future__ import annotations

import pytest
from subjects import gpt, mlp

import superscaler as ss
from superscaler.plan import Plan

STAGE = "stages:\n- devices: [0, 1]\n  mesh: {dp: 2}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            STAGE + "splits: [{axis: batch, dim: dp}]\nrecompute: [layers.0, layer.1]\n",
            "recompute: no module with operators matches 'layer.1'; expected module paths",
        ),
        (
            STAGE + "splits: [{axis: batch, dim: dp, where: [layers.*, heat]}]\n",
            "split batch on dp, where: no module with operators matches 'heat'; expected module "
            "paths (* matches one component), for example head",
        ),
        (
            STAGE + "assign: [{operators: [layers.0, layers.7], devices: 1}]\n",
            "no operator matches 'layers.7'; expected module paths or operator names",
        ),
        (
            "stages:\n- {devices: [0], modules: [head, stem]}\n- {devices: [1], modules: ['**']}\n",
            "stage 0: no operator matches stem; the model has ",
        ),
        (
            "stages:\n- {devices: [0], modules: [layer.0]}\n- {devices: [1], modules: ['**']}\n",
            "stage 0: no operator matches layer.0; the model has layers.0, layers.1, layers",
        ),
        (
            "stages:\n- {devices: [0], modules: [ZZZ]}\n- {devices: [1], modules: ['**']}\n",
            "stage 0: no operator matches ZZZ; the model has head, layers, layers.0, ",
        ),
        (
            "stages:\n- {devices: [0], modules: ['**']}\n- {devices: [1], modules: [head]}\n",
            "stage 1: earlier stages have all operators of head; name modules that they leave",
        ),
        (
            STAGE + "splits: [{axis: sequence, dim: dp}]\n",
            "split sequence on dp by 2: expected a tensor-parallel split on dp before it, found "
            "none; list {axis: auto, dim: dp} first, or leave it out",
        ),
        (
            STAGE + "splits:\n- {axis: batch, dim: dp}\n"
            "- {axis: 'head.weight:0', dim: dp, where: [layers.0]}\n",
            "split head.weight:0 on dp: no operator of layers.0 has the axis (y:1)",
        ),
        (
            "coshard(data_parallel(dp=1), parts=5)",
            "split auto on coshard by 5: no axis of the parameters' products comes out even; those "
            "worth splitting are layers.",
        ),
        ("megatron(tp=7)", "split auto on tp by 7: no axis of the parameters' products comes out"),
        (
            "hybrid(recompute='layers.* heads')",
            "recompute: no module with operators matches 'heads'",
        ),
        ("coshard(hybrid(), parts=2, where='block.*')", "where: no module with operators matches"),
    ],
)
def test_without_any_effect(text: str, message: str) -> None:
    with pytest.raises(ss.SuperScalerError) as caught:
        mlp().compile(text if "(" in text.splitlines()[0] else Plan.from_yaml(text))
    assert message in str(caught.value)


def test_co_shards_of_several_modules_add_up() -> None:
    one = "coshard(data_parallel(dp=1), parts=2, where='layers.0 layers.1')"
    once = "coshard(data_parallel(dp=1), parts=2, where='layers.0')"
    two = f"coshard({once}, parts=2, where='layers.1')"
    first, second = (mlp().compile(text).files for text in (one, two))
    assert first["program_0.py"] == second["program_0.py"]


def test_a_model_without_tokens_is_said_to_have_none() -> None:
    notes = mlp().compile("megatron(tp=2, sequence_parallel=True)").notes
    assert notes[0] == (
        "split sequence on tp changes nothing: the products split there put out no tokens that 2 "
        "divides"
    )
    assert not any(
        "sequence" in n for n in gpt().compile("megatron(tp=2, sequence_parallel=True)").notes
    )


def test_a_split_that_others_leave_nothing_is_said_to_change_nothing() -> None:
    fc1 = next(op for op in gpt().graph.operators if op.name == "layers.0.fc1.mm")
    own = gpt().axes.operators[fc1.id]
    found = [gpt().axes.axes[it.axis] for it in own.iters if it.size == 8]
    positions = next(axis for axis in found if axis.name != "batch")
    split = f"- {{axis: '{positions.name}', dim: dp, where: [layers.0.fc1]}}\n"
    plan = Plan.from_yaml(STAGE + "splits:\n- {axis: batch, dim: dp}\n" + split)
    (note,) = [n for n in gpt().compile(plan).notes if "changes nothing" in n]
    assert note.startswith(
        f"split {positions.name} on dp changes nothing: where operators have the"
    )
    assert "other splits on dp come first" in note


def test_products_that_parts_do_not_divide_are_said_to_be_left_whole() -> None:
    (note,) = gpt().compile("coshard(data_parallel(dp=1), parts=4)").notes
    assert note == (
        "split auto on coshard by 4: products are left whole, as 4 does not divide "
        "layers.0.attention.query.weight:0.0 (2), layers.1.attention.query.weight:0.0 (2); a "
        "number of parts that divides them splits them too"
    )
    assert gpt().compile("coshard(data_parallel(dp=1), parts=2)").notes == ()
    only = "coshard(data_parallel(dp=1), parts=4, where='layers.*.fc1 layers.*.fc2')"
    assert gpt().compile(only).notes == ()

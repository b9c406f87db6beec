"""Which rule an operator gets, and what some rules say."""

import pytest
from instances import real, whole
from parts import check, instance

from superscaler.ops import Operands, register_op, rule_for
from superscaler.ops.registry import RULES


def rule_of(target, *args, outputs, **kwargs):
    one = instance(target, *args, **kwargs)
    shapes = tuple(tuple(x.shape) for x in one.inputs)
    return rule_for(Operands(target, one.args, one.kwargs, shapes, outputs))


def test_unknown_operator_is_frozen():
    rule, has_rule = rule_of("mylib.mystery.default", real(4, 6), outputs=((4, 1),))
    assert not has_rule
    assert rule.inputs == ((("i0_0",), ("i0_1",)),)
    assert rule.outputs == ((("o0_0",), ()),)
    assert all(axis.frozen for axis in rule.axes.values())


def test_torch_says_which_other_operators_are_elementwise():
    assert rule_of("aten.special_i0e.default", real(4), outputs=((4,),))[1]
    assert not rule_of("aten.bernoulli.default", real(4), outputs=((4,),))[1]
    assert not rule_of("aten.add_.Tensor", real(4), real(4), outputs=((4,),))[1]


def test_registered_operator():
    register_op("mylib.rowsum.default", "m k+ -> m", linear=(frozenset({0}),))
    rule, has_rule = rule_of("mylib.rowsum.default", real(4, 6), outputs=((4,),))
    del RULES["mylib.rowsum.default"]
    assert has_rule
    assert rule.axes["k"].reduce == "sum"
    with pytest.raises(ValueError, match=r"register_op\('x'\): annotation 'm k' has no '->'"):
        register_op("x", "m k")


def test_view_shares_the_factors_of_both_shapes():
    rule, _ = rule_of("aten.view.default", real(12, 4), [3, 16], outputs=((3, 16),))
    assert rule.inputs == ((("f0", "f1"), ("f2",)),)
    assert rule.outputs == ((("f0",), ("f1", "f2")),)
    assert not any(axis.frozen for axis in rule.axes.values())


def test_chunks_of_a_dim_share_the_axis_within():
    rule = check(instance("aten.slice.Tensor", real(4, 12), 1, 6, 12))
    assert rule.inputs == ((("d0",), ("chunk", "k")),)
    assert rule.outputs == ((("d0",), ("k",)),)
    assert rule.axes["chunk"].frozen
    assert not rule.axes["k"].frozen
    rule = check(instance("aten.cat.default", [real(4, 6), real(4, 6)], 1))
    assert rule.outputs == ((("d0",), ("piece", "k")),)


def test_other_slices_freeze_the_dim():
    rule = check(instance("aten.slice.Tensor", real(4, 12), 1, 0, 11))
    assert rule.axes["whole"].frozen
    assert rule.axes["piece"].frozen


def test_linear_algebra_splits_over_its_batch_alone():
    x = real(6, 4, 3, 3)
    rule = check(instance("aten.linalg_cholesky_ex.default", x @ x.mT))
    assert {n: a.size for n, a in rule.axes.items() if not a.frozen} == {"d0": 6, "d1": 4}
    rule = check(instance("aten._linalg_solve_ex.default", real(3, 3), real(6, 3, 2)))
    assert all(axis.frozen for axis in rule.axes.values())


def test_bias_of_a_convolution_is_not_added_twice():
    settings = ([1], [1], [1], False, [0], 1)
    with_bias = check(
        instance("aten.convolution.default", real(2, 6, 5), real(4, 6, 3), real(4), *settings)
    )
    without = check(
        instance("aten.convolution.default", real(2, 6, 5), real(4, 6, 3), None, *settings)
    )
    assert with_bias.axes["c"].frozen
    assert without.axes["c"].reduce == "sum"


def test_vocabulary_of_an_embedding_is_indexed():
    rule = check(instance("aten.embedding.default", real(12, 6), whole(12, 4)))
    assert rule.axes["v"].indexed
    assert rule.axes["v"].reduce == "sum"


def test_narrow_casts_are_not_linear():
    import torch

    shapes = {"outputs": ((4,),)}
    assert rule_of("aten._to_copy.default", real(4), dtype=torch.float32, **shapes)[0].linear
    assert not rule_of("aten._to_copy.default", real(4), dtype=torch.bfloat16, **shapes)[0].linear

"""Every rule: parts run by themselves and put together are the whole."""

import pytest
from instances import FAMILIES, real
from layer_instances import LAYERS
from parts import check, instance

from superscaler.ops.registry import RULES, annotated

CALLS = FAMILIES | LAYERS


@pytest.mark.parametrize("family", CALLS)
def test_parts_are_the_whole(family):
    for one in CALLS[family]():
        check(one)


@pytest.mark.parametrize(
    ("annotation", "linear", "message"),
    [
        ("m k, k n -> m n", (), "not close"),  # a sum that is not said to be one
        ("m k>, k n -> m n", (), "not close"),
        ("m k+, k n -> m n", ((0, 1),), "linear in"),
        ("m k+, l+ n -> m n", (), None),  # parts that do not fit each other
    ],
)
def test_wrong_rule_is_noticed(monkeypatch, annotation, linear, message):
    sets = tuple(frozenset(s) for s in linear)
    monkeypatch.setitem(RULES, "aten.mm.default", annotated(annotation, linear=sets))
    with pytest.raises((AssertionError, RuntimeError), match=message):
        check(instance("aten.mm.default", real(4, 6), real(6, 8)))

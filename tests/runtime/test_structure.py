"""The structure of a batch as text."""

from __future__ import annotations

from typing import NamedTuple

from torch.utils._pytree import tree_structure

from superscaler.runtime.structure import structure


class Pair(NamedTuple):
    x: int
    y: list[int]


def test_named_containers() -> None:
    found = structure(tree_structure({"pair": Pair(1, [2, 3]), "none": None, "n": ()}))
    assert found == "dict(pair=Pair(x=*, y=list(*, *)), none=*, n=tuple())"

"""Selection: patterns of module paths, names and phases; axes by name and by spot."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from subjects import mlp

from superscaler.errors import PlanError, TransformError
from superscaler.transform.select import find_axes, matched_prefix, matches, select


@pytest.mark.parametrize(
    ("path", "pattern", "prefix"),
    [
        ("layers.3.mlp.fc1", "layers.*.mlp", "layers.3.mlp"),
        ("layers.3", "layers.*", "layers.3"),
        ("layers.3.mlp", "layers.{0-3}", "layers.3"),
        ("layers.30", "layers.{0-3}", None),
        ("layers.3.fc", "layers", "layers"),
        ("layers.3", "layers.*.mlp", None),
        ("a.layers.3", "layers.*", None),
        ("a.b.layers.3", "**.layers.*", "a.b.layers.3"),
        ("layers.3", "**.layers.*", "layers.3"),
        ("sublayers.3", "**.layers.*", None),
        ("layers.13", "layers.1*", "layers.13"),
        ("layersX3", "layers.3", None),
        ("layers.3.attention.mlp", "layers.*.mlp", None),
    ],
)
def test_patterns(path: str, pattern: str, prefix: str | None) -> None:
    assert matched_prefix(path, pattern) == prefix
    assert matches(path, pattern) == (prefix is not None)


@given(st.lists(st.from_regex(r"[a-z0-9_]+", fullmatch=True), min_size=1, max_size=5))
def test_a_path_matches_itself_and_its_parents(pieces: list[str]) -> None:
    path = ".".join(pieces)
    for n in range(1, len(pieces) + 1):
        assert matched_prefix(path, ".".join(pieces[:n])) == ".".join(pieces[:n])
    assert matches(path, ".".join("*" for _ in pieces))
    assert not matches(path, ".".join("*" for _ in [*pieces, ""]))


def test_select() -> None:
    graph = mlp().graph
    fc1 = select(graph, "layers.*.fc1")
    assert {graph.operators[i].module for i in fc1} >= {"layers.0.fc1", "layers.1.fc1"}
    assert list(fc1) == sorted(fc1)
    forward = select(graph, "layers.0.fc1", phase="forward")
    assert {graph.operators[i].phase.value for i in forward} == {"forward"}
    assert set(forward) < set(fc1)


def test_unknown_operator_pattern() -> None:
    with pytest.raises(TransformError) as caught:
        select(mlp().graph, "layer.0")
    assert str(caught.value).startswith(
        "no operator matches 'layer.0'; expected module paths or operator names (* matches one "
        "component), for example layers."
    )


def test_find_axes() -> None:
    graph, axes = mlp().graph, mlp().axes
    spots = find_axes(graph, axes, "layers.*.fc1.weight:0")
    assert len(spots) == 2
    assert [axes.axes[a].size for spot in spots for a in spot] == [32, 32]
    assert find_axes(graph, axes, "x:0") == find_axes(graph, axes, "batch")


@pytest.mark.parametrize(
    "spec", ["nothing", "layers.0.fc1.weight:7", "layers.0.fc1.weight:x", ":0"]
)
def test_no_such_axis(spec: str) -> None:
    with pytest.raises(PlanError, match="in this graph; expected an axis name or parameter:dim"):
        find_axes(mlp().graph, mlp().axes, spec)


@pytest.mark.parametrize("numbers", ["{4-2}", "{0-20000}"])
def test_ranges_go_up_and_are_no_longer_than_models(numbers: str) -> None:
    with pytest.raises(PlanError, match="expected a range that goes up, of 10,000 numbers at most"):
        matches("layers.3", f"layers.{numbers}")

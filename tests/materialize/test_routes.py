"""Conversions: the steps of well-known ones, and both paths against direct cutting."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from math import prod

import numpy as np
import pytest
from exact import assert_holds, exchange, follow, pieces
from hypothesis import given, settings
from hypothesis import strategies as st

from superscaler.cluster import Cluster
from superscaler.materialize.conversion import Route, plan_route
from superscaler.materialize.general import exchanges
from superscaler.transform.layout import Layout
from superscaler.transform.match import match_time
from superscaler.transform.partition import REPLICATE, VALUE, Grid

R, V = REPLICATE, VALUE
SIZES = (8, 4)


def layout(
    devices: np.ndarray, roles: tuple[int, ...], sizes: tuple[int, ...] = SIZES, reduce: str = "sum"
) -> Layout:
    return Layout(Grid(devices, tuple(f"d{i}" for i in range(devices.ndim))), roles, sizes, reduce)


def route(source: Layout, target: Layout) -> Route:
    match = match_time(source, target)
    return plan_route(source, target, match, 4, Cluster(64), {})


def kinds(source: Layout, target: Layout) -> list[str] | None:
    found = route(source, target)
    return None if found.paths is None else [s.kind for s in found.paths[()].steps]


FOUR, TWO_BY_TWO = np.arange(4), np.arange(4).reshape(2, 2)


@pytest.mark.parametrize(
    ("devices", "before", "after", "expected"),
    [
        (FOUR, (0,), (0,), []),
        (FOUR, (0,), (R,), ["all_gather"]),
        (FOUR, (0,), (1,), ["all_to_all"]),
        (FOUR, (V,), (R,), ["all_reduce"]),
        (FOUR, (V,), (1,), ["reduce_scatter"]),
        (FOUR, (R,), (1,), ["chunk"]),
        (TWO_BY_TWO, (0, V), (0, R), ["all_reduce"]),
        (TWO_BY_TWO, (V, V), (R, R), ["all_reduce"]),
        (TWO_BY_TWO, (V, V), (0, R), ["reduce_scatter", "all_reduce"]),
        (TWO_BY_TWO, (0, 1), (R, R), ["all_gather", "all_gather"]),
        (TWO_BY_TWO, (0, 0), (R, R), ["all_gather"]),
        (TWO_BY_TWO, (0, 0), (0, R), ["all_gather"]),
        (FOUR, (R,), (V,), None),
    ],
)
def test_well_known_conversions(
    devices: np.ndarray, before: tuple[int, ...], after: tuple[int, ...], expected: list[str] | None
) -> None:
    assert kinds(layout(devices, before), layout(devices, after)) == expected


def test_move_to_other_devices() -> None:
    assert kinds(layout(FOUR, (0,)), layout(FOUR + 4, (0,))) == ["move"]
    assert kinds(layout(FOUR, (R,)), layout(FOUR + 4, (0,))) == ["chunk", "move"]
    assert kinds(layout(FOUR, (0,)), layout(FOUR + 4, (R,))) == ["move", "all_gather"]


def test_other_shapes_of_the_same_devices() -> None:
    assert kinds(layout(FOUR, (0,)), layout(TWO_BY_TWO, (0, R))) == ["all_gather"]
    assert kinds(layout(TWO_BY_TWO, (0, 0)), layout(FOUR, (0,))) == []


def test_dims_in_another_order() -> None:
    """The same devices, their grid's three dims turned around."""
    cube = np.arange(8).reshape(2, 2, 2)
    source = layout(cube, (0, R, 1))
    for order in ((1, 2, 0), (2, 0, 1), (2, 1, 0)):
        roles = tuple(source.roles[d] for d in order)
        assert kinds(source, layout(cube.transpose(order), roles)) == []
        check(source, layout(cube.transpose(order), (1, 0, R)))


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (layout(np.arange(3), (0,)), layout(np.arange(3), (R,))),  # eight rows in three
        (layout(np.arange(2), (0,)), layout(np.arange(4), (0,))),  # unequal numbers of devices
        (layout(np.arange(2), (0,)), layout(np.array([1, 2]), (1,))),  # partly the same devices
    ],
)
def test_irregular_ones_take_the_general_path(source: Layout, target: Layout) -> None:
    found = route(source, target)
    whole = np.arange(prod(SIZES)).reshape(SIZES)
    if found.is_general:
        assert_holds(target, whole, exchange(found, pieces(source, whole)))
    else:
        assert found.paths is not None
        assert_holds(target, whole, follow(found.paths[()], pieces(source, whole)))


@st.composite
def grids(draw: st.DrawFn, count: int) -> np.ndarray:
    shapes = {
        1: [(1,)],
        2: [(2,)],
        4: [(4,), (2, 2)],
        6: [(6,), (2, 3), (3, 2)],
        8: [(8,), (2, 4), (2, 2, 2)],
    }
    shape = draw(st.sampled_from(shapes[count]))
    devices = np.array(draw(st.permutations(range(count)))).reshape(shape)
    return devices + draw(st.sampled_from([0, 0, 1, count]))


@st.composite
def conversions(draw: st.DrawFn, same_count: bool) -> tuple[Layout, Layout]:
    sizes = draw(st.sampled_from([(8, 4), (12, 6), (24,), (9, 8), (8, 6, 12)]))
    reduce = draw(st.sampled_from(["sum", "max"]))
    counts = [1, 2, 4, 6, 8]
    count = draw(st.sampled_from(counts))
    other = count if same_count else draw(st.sampled_from(counts))
    here, there = draw(grids(count)), draw(grids(other))
    if same_count and draw(st.booleans()):
        there = here
    options = [R, *range(len(sizes))]
    before = tuple(draw(st.sampled_from([*options, V])) for _ in here.shape)
    after = tuple(draw(st.sampled_from(options)) for _ in there.shape)
    return layout(here, before, sizes, reduce), layout(there, after, sizes)


@settings(max_examples=150, deadline=None)
@given(conversions(same_count=True))
def test_both_paths_agree_with_cutting(pair: tuple[Layout, Layout]) -> None:
    check(*pair)


@settings(max_examples=100, deadline=None)
@given(conversions(same_count=False))
def test_any_two_grids(pair: tuple[Layout, Layout]) -> None:
    check(*pair)


def check(source: Layout, target: Layout) -> None:
    """Whatever path is chosen, and the general path, make the target's parts."""
    if any(b <= a for part in target.parts() for a, b in target.box(part)):
        return
    whole = np.random.default_rng(1).integers(0, 100, source.sizes)
    found = route(source, target)
    if found.paths is not None:
        assert_holds(target, whole, follow(found.paths[()], pieces(source, whole)))
    general = Route(source, target, found.match, (), "", -1, None, frozenset())
    assert_holds(target, whole, exchange(general, pieces(source, whole)))


def test_the_cheaper_path_wins() -> None:
    """Across slow links, gathering after the move of a part beats moving the whole."""
    found = route(layout(np.array([0, 1]), (R,)), layout(np.array([8, 9]), (R,)))
    assert found.paths is not None
    assert [s.kind for s in found.paths[()].steps] in (["move"], ["chunk", "move", "all_gather"])
    assert found.paths[()].cost_us > 0


def test_what_routes_share_cannot_be_changed() -> None:
    """Exchanges are found once for a route, and shared by all tensors that take it."""
    source, target = layout(FOUR, (0,)), layout(np.arange(3), (R,))
    found = exchanges(route(source, target), ())
    assert found[3].send
    with pytest.raises(FrozenInstanceError):
        found[3].out = None  # type: ignore[misc]
    with pytest.raises(TypeError):
        found[4] = found[3]  # type: ignore[index]
    assert all(isinstance(getattr(found[0], n), tuple) for n in ("local", "send", "recv", "slots"))

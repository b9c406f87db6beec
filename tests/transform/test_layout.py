"""Layouts: intervals and boxes tile a tensor; time matching finds the parts that are needed."""

from __future__ import annotations

from itertools import pairwise, product
from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from superscaler.transform.layout import Layout, interval, resting_layout
from superscaler.transform.match import ALL, FIRST, match_time
from superscaler.transform.partition import REPLICATE, VALUE, Grid


def space(*shape: int) -> Grid:
    return Grid(np.arange(prod(shape)).reshape(shape), tuple(f"d{i}" for i in range(len(shape))))


def timed(times: int, *shape: int) -> Grid:
    """`times` parts in time, one after the other, on the devices of `shape`."""
    devices = np.arange(prod(shape)).reshape(shape)
    return Grid(np.stack([devices] * times), ("mb", *(f"d{i}" for i in range(len(shape)))))


@given(start=st.integers(0, 50), size=st.integers(1, 60), count=st.integers(1, 60))
def test_intervals_tile(start: int, size: int, count: int) -> None:
    parts = [interval(start, start + size, i, count) for i in range(count)]
    assert parts[0][0] == start
    assert parts[-1][1] == start + size
    assert all(a[1] == b[0] for a, b in pairwise(parts))
    lengths = [b - a for a, b in parts]
    assert max(lengths) - min(lengths) <= 1
    assert lengths == sorted(lengths, reverse=True)


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    shape = tuple(draw(st.lists(st.integers(1, 3), min_size=0, max_size=3)))
    sizes = tuple(draw(st.lists(st.integers(1, 12), min_size=1, max_size=3)))
    roles = tuple(draw(st.sampled_from([REPLICATE, *range(len(sizes))])) for _ in shape)
    return Layout(space(*shape), roles, sizes)


@given(layouts())
def test_boxes_cover_every_element_as_often_as_it_is_replicated(layout: Layout) -> None:
    counts = np.zeros(layout.sizes, dtype=int)
    for part in layout.parts():
        counts[tuple(slice(a, b) for a, b in layout.box(part))] += 1
    copies = prod(n for n, r in zip(layout.grid.shape, layout.roles) if r == REPLICATE)
    assert (counts == copies).all()


@given(layouts())
def test_even_means_equal_sizes(layout: Layout) -> None:
    sizes = {layout.local_sizes(part) for part in layout.parts()}
    if layout.is_even:
        assert len(sizes) == 1


def test_splits_of_one_slot_nest() -> None:
    layout = Layout(space(2, 2), (0, 0), (8,))
    assert [layout.box(p)[0] for p in layout.parts()] == [(0, 2), (2, 4), (4, 6), (6, 8)]


def test_value_is_the_index_on_value_dims() -> None:
    assert Layout(space(2, 3), (VALUE, 0), (6,)).value((1, 2)) == (1,)


@pytest.mark.parametrize(
    ("devices", "dims"),
    [
        ([[0, 1], [2, 3]], ()),
        ([[0, 1], [0, 1]], (0,)),
        ([[0, 0], [1, 1]], (1,)),
        ([[0, 0], [0, 0]], (0, 1)),
        ([[0, 1], [1, 0]], (0,)),  # bidirectional: each device has both, in another order
        ([[0, 1], [1, 2]], (0,)),
    ],
)
def test_time_dims(devices: list[list[int]], dims: tuple[int, ...]) -> None:
    assert Grid(np.array(devices), ("a", "b")).time_dims == dims


@pytest.mark.parametrize(
    ("producer", "reader", "sources"),
    [
        ((timed(4, 2), (0, REPLICATE)), (timed(4, 2), (0, 1)), (0,)),
        ((timed(4, 2), (0, REPLICATE)), (timed(2, 2), (0, 1)), (ALL,)),
        ((timed(4, 2), (0, REPLICATE)), (space(2), (REPLICATE,)), (ALL,)),
        ((timed(4, 2), (VALUE, REPLICATE)), (space(2), (REPLICATE,)), (ALL,)),
        ((timed(4, 2), (REPLICATE, 0)), (space(2), (0,)), (FIRST,)),
        ((timed(4, 2), (REPLICATE, 0)), (timed(4, 2), (1, 0)), (0,)),
        ((space(2), (0,)), (timed(4, 2), (1, 0)), ()),
        ((timed(4, 2), (0, REPLICATE)), (timed(4, 2), (1, 0)), (ALL,)),
    ],
)
def test_match_time(
    producer: tuple[Grid, tuple[int, ...]],
    reader: tuple[Grid, tuple[int, ...]],
    sources: tuple[int, ...],
) -> None:
    match = match_time(Layout(*producer, (8, 8)), Layout(*reader, (8, 8)))
    assert match.sources == sources
    assert match.is_mixing == (ALL in sources)


@given(layouts(), st.integers(1, 3), st.data())
def test_matched_parts_hold_all_that_is_read(
    layout: Layout, times: int, data: st.DataObject
) -> None:
    """What `match_time` says a reader waits for covers the reader's box."""
    reader_role = data.draw(st.sampled_from([REPLICATE, *range(len(layout.sizes))]))
    own_role = data.draw(st.sampled_from([REPLICATE, *range(len(layout.sizes))]))
    source = Layout(timed(times, 1), (own_role, REPLICATE), layout.sizes)
    target = Layout(timed(times, 1), (reader_role, REPLICATE), layout.sizes)
    match = match_time(source, target)
    for part in target.parts():
        t = part[0] if target.grid.time_dims else 0
        options = {ALL: range(times), FIRST: (0,)}
        needed = options.get(match.sources[0], (t,)) if match.sources else range(times)
        covered = np.zeros(source.sizes, dtype=bool)
        for n in needed:
            covered[tuple(slice(a, b) for a, b in source.box((n, 0)))] = True
        assert covered[tuple(slice(a, b) for a, b in target.box(part))].all()


def test_resting_layout_has_no_time_and_no_partial_values() -> None:
    rest = resting_layout(Layout(timed(4, 2, 2), (0, VALUE, 1), (8, 8)))
    assert rest.grid.shape == (2, 2)
    assert rest.roles == (REPLICATE, 1)
    grids = list(product(range(2), range(2)))
    assert [rest.box(g) for g in grids] == [((0, 8), (0, 4)), ((0, 8), (4, 8))] * 2

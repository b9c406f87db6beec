"""Shards: cutting, putting back, and rectangles, on random factorings."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from superscaler.runtime.shards import chunks, local_shape, put, subtract, take


@st.composite
def factored_boxes(draw):
    slots, box = [], []
    for _ in range(draw(st.integers(0, 3))):
        sizes = tuple(draw(st.lists(st.integers(1, 4), min_size=0, max_size=3)))
        starts = [draw(st.integers(0, size - 1)) for size in sizes]
        pairs = zip(starts, sizes, strict=True)
        intervals = [(start, draw(st.integers(start + 1, size))) for start, size in pairs]
        slots.append(sizes)
        box.append(tuple(intervals))
    return tuple(slots), tuple(box)


def numbered(slots):
    shape = [torch.Size(sizes).numel() for sizes in slots]
    return torch.arange(torch.Size(shape).numel()).reshape(shape)


@given(factored_boxes())
def test_put_undoes_take(case):
    slots, box = case
    whole = numbered(slots)
    shard = take(whole, slots, box)
    assert shard.shape == local_shape(box)
    back = torch.full_like(whole, -1)
    put(back, slots, box, shard)
    assert torch.equal(take(back, slots, box), shard)
    assert (back != -1).sum() == shard.numel()


@given(factored_boxes())
def test_chunks_are_the_same_elements_as_the_box(case):
    slots, box = case
    whole = numbered(slots)
    shard = take(whole, slots, box)
    rebuilt = torch.full_like(shard, -1)
    for offsets, local, sizes in chunks(slots, box):
        rebuilt[_slices(local, sizes)] = whole[_slices(offsets, sizes)]
    assert torch.equal(rebuilt, shard)


def test_a_full_minor_factor_makes_one_run():
    assert len(list(chunks(((4, 8),), (((1, 3), (0, 8)),)))) == 1
    assert len(list(chunks(((4, 8),), (((1, 3), (0, 4)),)))) == 2


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 4)), min_size=6, max_size=6))
def test_subtract_leaves_exactly_what_the_hole_does_not_cover(pairs):
    offsets, sizes = zip(*pairs[:3], strict=True)
    hole_offsets, hole_sizes = zip(*pairs[3:], strict=True)
    count = torch.zeros(10, 10, 10, dtype=torch.int)
    for start, local, size in subtract(offsets, sizes, (hole_offsets, (0, 0, 0), hole_sizes)):
        assert start == tuple(a + b for a, b in zip(offsets, local, strict=True))
        count[_slices(start, size)] += 1
    expected = torch.zeros_like(count)
    expected[_slices(offsets, sizes)] = 1
    expected[_slices(hole_offsets, hole_sizes)] = 0
    assert torch.equal(count, expected)


def _slices(offsets, sizes):
    return tuple(slice(o, o + s) for o, s in zip(offsets, sizes, strict=True))

"""Shards: boxes of a tensor whose dims are products of factors.

`slots` gives per dim the sizes of its factors, major to minor; `box` gives per dim and per factor
the interval (start, stop) that a shard holds. A shard's dim is the product of its intervals, so a
shard may be strided in the flat dim: rows 0-1 and 4-5 of eight are the slots (2, 4), the box
((0, 2), (0, 2)).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from math import prod

import torch

Slots = tuple[tuple[int, ...], ...]
Box = tuple[tuple[tuple[int, int], ...], ...]
Chunk = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]  # offsets, local offsets, sizes


def local_shape(box: Box) -> tuple[int, ...]:
    """The shape of the shard that holds `box`.

    >>> local_shape((((0, 512),), ((0, 2), (0, 64))))
    (512, 128)
    """
    return tuple(prod(stop - start for start, stop in dim) for dim in box)


def whole_part(shape: Sequence[int]) -> tuple[Slots, Box]:
    """The slots and the box of a tensor that is not split.

    >>> whole_part((4, 8))
    (((4,), (8,)), (((0, 4),), ((0, 8),)))
    """
    return tuple((n,) for n in shape), tuple(((0, n),) for n in shape)


def take(whole: torch.Tensor, slots: Slots, box: Box) -> torch.Tensor:
    """Cut the shard that holds `box` out of the whole tensor (a view where that is possible)."""
    return _slice(whole, slots, box).reshape(local_shape(box))


def put(whole: torch.Tensor, slots: Slots, box: Box, shard: torch.Tensor) -> None:
    """Write a shard back to its place in the whole tensor, which must be contiguous."""
    target = _slice(whole, slots, box)
    target.copy_(shard.reshape(target.shape))


def cut(x: torch.Tensor, box: Sequence[tuple[int, int]]) -> torch.Tensor:
    """The view of x within (start, stop) of every dim."""
    for dim, (start, stop) in enumerate(box):
        if stop - start != x.shape[dim]:
            x = x.narrow(dim, start, stop - start)
    return x


def chunks(slots: Slots, box: Box) -> Iterator[Chunk]:
    """The box as rectangles of the flat dims: (offsets in the whole, in the shard, sizes).

    >>> list(chunks(((2, 4),), (((0, 2), (0, 2)),)))
    [((0,), (0,), (2,)), ((4,), (2,), (2,))]
    """
    per_dim = [_runs(sizes, dim) for sizes, dim in zip(slots, box, strict=True)]
    for runs in product(*per_dim):
        offsets, local_offsets, sizes = zip(*runs, strict=True) if runs else ((), (), ())
        yield tuple(offsets), tuple(local_offsets), tuple(sizes)


def subtract(offsets: tuple[int, ...], sizes: tuple[int, ...], hole: Chunk) -> list[Chunk]:
    """The rectangle at `offsets` less another, as disjoint rectangles (local offsets within it)."""
    hole_offsets, _, hole_sizes = hole
    low = [max(o - p, 0) for p, o in zip(offsets, hole_offsets, strict=True)]
    high = [
        min(o + s - p, size)
        for p, size, o, s in zip(offsets, sizes, hole_offsets, hole_sizes, strict=True)
    ]
    whole = [(0, size) for size in sizes]
    if any(a >= b for a, b in zip(low, high, strict=True)):
        return [_rectangle(offsets, whole)]
    rest = []
    for dim, (start, stop) in enumerate(zip(low, high, strict=True)):
        for side in ((0, start), (stop, sizes[dim])):
            if side[0] < side[1]:
                rest.append(_rectangle(offsets, [*whole[:dim], side, *whole[dim + 1 :]]))
        whole[dim] = (start, stop)
    return rest


def _rectangle(offsets: tuple[int, ...], intervals: list[tuple[int, int]]) -> Chunk:
    local = tuple(start for start, _ in intervals)
    sizes = tuple(stop - start for start, stop in intervals)
    return tuple(o + s for o, s in zip(offsets, local, strict=True)), local, sizes


def _slice(whole: torch.Tensor, slots: Slots, box: Box) -> torch.Tensor:
    factors = [size for dim in slots for size in dim]
    intervals = [interval for dim in box for interval in dim]
    return cut(whole.reshape(factors), intervals)


def _runs(sizes: tuple[int, ...], box: tuple[tuple[int, int], ...]) -> list[tuple[int, int, int]]:
    """The box of one dim as contiguous runs: (start in the whole dim, in the shard, length)."""
    minor, length = len(sizes), 1
    while minor and box[minor - 1] == (0, sizes[minor - 1]):
        minor -= 1
        length *= sizes[minor]
    if not minor:
        return [(0, 0, length)]
    start, stop = box[minor - 1]
    run = (stop - start) * length
    strides = [prod(sizes[factor + 1 :]) for factor in range(minor)]
    majors = product(*(range(*interval) for interval in box[: minor - 1]))
    return [
        (sum(i * s for i, s in zip((*major, start), strides, strict=True)), number * run, run)
        for number, major in enumerate(majors)
    ]

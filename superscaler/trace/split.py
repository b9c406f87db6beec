"""Equal splits of a dim as a view and an unbind, so that the parts share one axis.

    split(x: [b, 3 d], d, 1)  ->  unbind(view(x, [b, 3, d]), 1)

The backward is a stack and a view. With the dim a product (part, d), splitting d splits all the
parts alike: the fused projections of attention and of gated feed-forwards need no special case.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def split(x: Tensor, size: int, dim: int = 0) -> Sequence[Tensor]:
    """`aten.split.Tensor`."""
    if x.shape[dim] % size:
        return torch.split_with_sizes(x, _sizes(x.shape[dim], size), dim)
    return _equal_parts(x, x.shape[dim] // size, dim)


def split_with_sizes(x: Tensor, sizes: Sequence[int], dim: int = 0) -> Sequence[Tensor]:
    """`aten.split_with_sizes`."""
    if len(set(sizes)) == 1:
        return _equal_parts(x, len(sizes), dim)
    return torch.split_with_sizes(x, list(sizes), dim)


def chunk(x: Tensor, chunks: int, dim: int = 0) -> Sequence[Tensor]:
    """`aten.chunk`."""
    return split(x, -(-x.shape[dim] // chunks), dim)


def _equal_parts(x: Tensor, parts: int, dim: int) -> Sequence[Tensor]:
    if parts == 1:
        return [x]
    dim %= x.dim()
    shape = [*x.shape[:dim], parts, x.shape[dim] // parts, *x.shape[dim + 1 :]]
    return x.reshape(shape).unbind(dim)


def _sizes(total: int, size: int) -> list[int]:
    return [min(size, total - start) for start in range(0, total, size)]

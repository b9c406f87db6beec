"""Parts of gather, scatter and indexing: the indexed dims hold a range of the whole."""

from __future__ import annotations

import torch
from torch import Tensor

from superscaler.runtime.kernels.library import define
from superscaler.runtime.kernels.lookup import within


def gather_part(x: Tensor, dim: int, index: Tensor, start: int) -> Tensor:
    """`gather` from x, which has `dim` from `start` on; zeros for all others."""
    own, is_own = within(index, start, x.shape[dim])
    return x.gather(dim, own).masked_fill_(~is_own, 0)


def scatter_part(x: Tensor, dim: int, index: Tensor, src: Tensor, start: int) -> Tensor:
    """`scatter` into x, which has `dim` from `start` on; leaves out all others."""
    grown, own = _with_spare(x, dim, index, start)
    return grown.scatter_(dim, own, src).narrow(dim, 0, x.shape[dim])


def scatter_part_value(x: Tensor, dim: int, index: Tensor, value: float, start: int) -> Tensor:
    """`scatter` of one number."""
    grown, own = _with_spare(x, dim, index, start)
    return grown.scatter_(dim, own, value).narrow(dim, 0, x.shape[dim])


def _with_spare(x: Tensor, dim: int, index: Tensor, start: int) -> tuple[Tensor, Tensor]:
    """A copy of x with one more place along `dim`, and the index, which names it for all others."""
    count = x.shape[dim]
    shape = list(x.shape)
    shape[dim] += 1
    grown = x.new_empty(shape)
    grown.narrow(dim, 0, count).copy_(x)
    own, is_own = within(index, start, count)
    return grown, own.masked_fill_(~is_own, count)


def scatter_add_part(
    x: Tensor, dim: int, index: Tensor, src: Tensor, start: int, before: int
) -> Tensor:
    """A part of `scatter_add`; x counts only where no elements lie `before` the part's."""
    own, is_own = within(index, start, x.shape[dim])
    used = src[tuple(slice(n) for n in index.shape)]
    base = torch.zeros_like(x) if before else x
    return base.scatter_add(dim, own, used.masked_fill(~is_own, 0))


def index_add_part(
    x: Tensor, dim: int, index: Tensor, source: Tensor, start: int, before: int
) -> Tensor:
    """A part of `index_add`; x counts only where no rows lie `before` the part's."""
    own, is_own = within(index, start, x.shape[dim])
    shape = [1] * x.dim()
    shape[dim] = -1
    base = torch.zeros_like(x) if before else x
    return base.index_add(dim, own, source.masked_fill(~is_own.reshape(shape), 0))


def _own_places(
    x: Tensor, indices: list[Tensor | None], starts: list[int], counts: list[int]
) -> tuple[list[Tensor | None], Tensor, int]:
    """Indices into the part x of a tensor, where all of them are within it, and their first dim.

    `starts` and `counts` say where x's part of each indexed dim starts, and the dim's whole size.
    """
    dims = [d for d, index in enumerate(indices) if index is not None]
    own: list[Tensor | None] = list(indices)
    is_own: Tensor | None = None
    for d, start, count in zip(dims, starts, counts):
        index = indices[d]
        assert index is not None
        whole = torch.where(index < 0, index + count, index)
        own[d], fits = within(whole, start, x.shape[d])
        is_own = fits if is_own is None else is_own & fits
    assert is_own is not None
    is_run = dims == list(range(dims[0], dims[-1] + 1))
    return own, is_own, dims[0] if is_run else 0


def index_part(
    x: Tensor, indices: list[Tensor | None], starts: list[int], counts: list[int]
) -> Tensor:
    """`x[indices]` from a part of x; zeros where an index is not within it."""
    own, is_own, first = _own_places(x, indices, starts, counts)
    chosen: Tensor = torch.ops.aten.index.Tensor(x, own)
    after = chosen.dim() - first - is_own.dim()
    return chosen.masked_fill_(~is_own.reshape([*is_own.shape, *[1] * after]), 0)


def index_put_part(
    x: Tensor,
    indices: list[Tensor | None],
    values: Tensor,
    accumulate: bool,
    starts: list[int],
    counts: list[int],
    before: list[int],
) -> Tensor:
    """A part of `index_put`: values at places outside of x are left out.

    When accumulating, x counts only where no values lie `before` the part's.
    """
    own, is_own, first = _own_places(x, indices, starts, counts)
    after = x.dim() - sum(index is not None for index in indices) - first
    fits = is_own.reshape([*is_own.shape, *[1] * after])
    if accumulate:
        base = torch.zeros_like(x) if any(before) else x
        added: Tensor = torch.ops.aten.index_put(base, own, torch.where(fits, values, 0), True)
        return added
    dim = next(d for d, index in enumerate(indices) if index is not None)
    index = own[dim]
    assert index is not None
    shape = list(x.shape)
    shape[dim] += 1
    grown = x.new_empty(shape)
    grown.narrow(dim, 0, x.shape[dim]).copy_(x)
    own[dim] = torch.where(is_own, index, x.shape[dim])
    torch.ops.aten.index_put_(grown, own, values)
    return grown.narrow(dim, 0, x.shape[dim])


define("gather_part(Tensor x, int dim, Tensor index, int start) -> Tensor", gather_part)
define(
    "scatter_part.src(Tensor x, int dim, Tensor index, Tensor src, int start) -> Tensor",
    scatter_part,
)
define(
    "scatter_part.value(Tensor x, int dim, Tensor index, Scalar value, int start) -> Tensor",
    scatter_part_value,
)
define(
    "scatter_add_part(Tensor x, int dim, Tensor index, Tensor src, int start, int before) "
    "-> Tensor",
    scatter_add_part,
)
define(
    "index_add_part(Tensor x, int dim, Tensor index, Tensor source, int start, int before) "
    "-> Tensor",
    index_add_part,
)
define("index_part(Tensor x, Tensor?[] indices, int[] starts, int[] counts) -> Tensor", index_part)
define(
    "index_put_part(Tensor x, Tensor?[] indices, Tensor values, bool accumulate, "
    "int[] starts, int[] counts, int[] before) -> Tensor",
    index_put_part,
)

"""Parts of embeddings: lookups in, and gradients of, a range of rows; `arange` from an offset."""

from __future__ import annotations

import torch
from torch import Tensor

from superscaler.runtime.kernels.library import define

aten = torch.ops.aten


def within(index: Tensor, start: int, count: int) -> tuple[Tensor, Tensor]:
    """The index counted from `start`, and where it is in [0, count) then; 0 elsewhere."""
    own = index - start
    is_own = (own >= 0) & (own < count)
    return own * is_own, is_own


def embedding_part(weight: Tensor, indices: Tensor, start: int) -> Tensor:
    """Rows of `weight`, which has the rows from `start` on; zeros for all others."""
    own, is_own = within(indices, start, weight.shape[0])
    rows = weight.index_select(0, own.reshape(-1)).reshape(*indices.shape, *weight.shape[1:])
    return rows.masked_fill_(~is_own[..., None], 0)


def embedding_backward_part(
    grad: Tensor, indices: Tensor, num_rows: int, padding_idx: int, start: int
) -> Tensor:
    """The gradient of rows [start, start + num_rows)."""
    own, is_own = within(indices, start, num_rows)
    if padding_idx >= 0:
        is_own &= indices != padding_idx
    skipped = own.masked_fill(~is_own, num_rows)
    grown: Tensor = aten.embedding_dense_backward(grad, skipped, num_rows + 1, num_rows, False)
    return grown[:num_rows]


def index_select_part(x: Tensor, dim: int, index: Tensor, start: int) -> Tensor:
    """Slices of x along `dim`, which has those from `start` on; zeros for all others."""
    own, is_own = within(index, start, x.shape[dim])
    chosen = x.index_select(dim, own)
    shape = [1] * x.dim()
    shape[dim] = -1
    return chosen.masked_fill_(~is_own.reshape(shape), 0)


def arange_part(
    length: int,
    offset: int,
    start: float,
    step: float,
    dtype: torch.dtype,
    device: torch.device | None = None,
) -> Tensor:
    """Numbers `offset` to `offset + length` of those from `start` in steps of `step`."""
    wide = torch.float64 if dtype.is_floating_point else torch.int64
    numbers = torch.arange(offset, offset + length, dtype=wide, device=device)
    return (numbers * step + start).to(dtype)


def _fake_arange(
    length: int,
    offset: int,
    start: float,
    step: float,
    dtype: torch.dtype,
    device: torch.device | None = None,
) -> Tensor:
    return torch.empty(length, dtype=dtype, device=device)


define(
    "embedding_part(Tensor weight, Tensor indices, int start) -> Tensor",
    embedding_part,
    lambda weight, indices, start: weight.new_empty((*indices.shape, *weight.shape[1:])),
)
define(
    "embedding_backward_part(Tensor grad, Tensor indices, int num_rows, int padding_idx, "
    "int start) -> Tensor",
    embedding_backward_part,
    lambda grad, indices, num_rows, padding_idx, start: grad.new_empty((num_rows, grad.shape[-1])),
)
define("index_select_part(Tensor x, int dim, Tensor index, int start) -> Tensor", index_select_part)
define(
    "arange_part(int length, int offset, Scalar start, Scalar step, *, ScalarType dtype, "
    "Device? device=None) -> Tensor",
    arange_part,
    _fake_arange,
)

"""Bags of one size as a lookup and a sum, so that their batch can be split.

    embedding_bag(w, view(x: [b, k], [b k]), arange(0, b k, k))  ->  sum(embedding(w, x), 1)

`EmbeddingBag` makes a flat list of the rows of a batch; where bags of a flat list end is data.
"""

from __future__ import annotations

import torch
from torch import Tensor, fx

aten = torch.ops.aten
_MEAN, _MAX = 1, 2  # ATen's numbers of the modes; 0 is a sum


def size_of_bags(node: fx.Node) -> int | None:
    """How many rows each bag of an `aten.embedding_bag` has, if all have as many.

    None also where more than the bags is read of its results, or where its gradient is not that of
    a lookup.
    """
    _, _, offsets, scale_by_frequency, _, is_sparse, _, with_end, _ = node.args
    reads_more = any(user.users for user in node.users if user.args[1] != 0)
    if reads_more or scale_by_frequency or is_sparse or with_end:
        return None
    if not isinstance(offsets, fx.Node) or offsets.target is not aten.arange.start_step:
        return None
    start, end, size = offsets.args
    indices = node.args[1]
    assert isinstance(indices, fx.Node)
    is_whole = start == 0 and end == indices.meta["val"].numel() and end % size == 0  # type: ignore[operator]
    return size if is_whole and isinstance(size, int) else None


def equal_bags(
    size: int,
    weight: Tensor,
    indices: Tensor,
    mode: int,
    row_weights: Tensor | None,
    padding_idx: int | None,
) -> Tensor:
    """`aten.embedding_bag.padding_idx` of bags of `size` rows: its first result."""
    bags = indices.view(-1, size)
    rows: Tensor = aten.embedding.default(weight, bags)
    if row_weights is not None:
        rows = rows * row_weights.view(-1, size, 1)
    if padding_idx is None:
        return rows.max(1).values if mode == _MAX else _total(rows, mode, size)
    counts = bags != padding_idx % weight.shape[0]
    num_rows = counts.sum(1, keepdim=True)
    skipped = counts.logical_not().unsqueeze(2)
    if mode == _MAX:
        largest = rows.masked_fill(skipped, float("-inf")).max(1).values
        return largest.masked_fill(num_rows == 0, 0)
    return _total(rows.masked_fill(skipped, 0), mode, num_rows.clamp(min=1))


def _total(rows: Tensor, mode: int, num_rows: int | Tensor) -> Tensor:
    total: Tensor = rows.sum(1)
    return total / num_rows if mode == _MEAN else total

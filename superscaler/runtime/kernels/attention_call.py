"""AttentionCall: everything an attention is told besides its tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class AttentionCall:
    """The settings of one call; see `attention` for their meaning."""

    mask: Tensor | None
    dropout_p: float
    causal: bool
    scale: float
    op_id: int
    index: Sequence[int]
    query_start: int

    def additive_mask(self, q: Tensor, num_keys: int, dtype: torch.dtype) -> Tensor | None:
        """Mask and causality as one tensor to add to scores, (..., queries, keys)."""
        mask = self.mask
        if mask is not None and mask.dtype == torch.bool:
            mask = torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, -torch.inf)
        if self.causal:
            hidden = self._hidden(q, num_keys)
            if mask is None:
                mask = torch.zeros(hidden.shape, dtype=dtype, device=q.device)
            mask = mask.masked_fill(hidden, -torch.inf)
        return None if mask is None else mask.to(dtype)

    def kernel_mask(self, q: Tensor, num_keys: int) -> tuple[Tensor | None, bool]:
        """A mask of four dims to add, and whether the kernel itself should be causal."""
        if self.mask is None and self.query_start == 0:
            return None, self.causal
        mask = self.additive_mask(q, num_keys, q.dtype)
        return (None if mask is None else mask[(None,) * (4 - mask.dim())]), False

    def _hidden(self, q: Tensor, num_keys: int) -> Tensor:
        """Where a key comes after the query."""
        queries = torch.arange(self.query_start, self.query_start + q.shape[-2], device=q.device)
        return torch.arange(num_keys, device=q.device) > queries[:, None]

"""AttentionCall: everything an attention is told besides its tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class AttentionCall:
    """The settings of one call; see `attention` for their meaning.

    Keys are numbered from `key_start` on, `key_stride` apart, of `num_keys` (0: all are here);
    queries likewise.
    """

    mask: Tensor | None
    dropout_p: float
    causal: bool
    scale: float
    op_id: int
    index: Sequence[int]
    query_start: int
    key_start: int = 0
    num_keys: int = 0
    query_stride: int = 1
    key_stride: int = 1

    def visible(self, num_queries: int, num_keys: int) -> tuple[int, int]:
        """The first query that sees a key, and how many keys some query sees."""
        if not self.causal:
            return 0, num_keys
        before = self.key_start - self.query_start
        last = self.query_start + (num_queries - 1) * self.query_stride
        blind = min(max(-(-before // self.query_stride), 0), num_queries)
        seen = min(max((last - self.key_start) // self.key_stride + 1, 0), num_keys)
        return blind, seen

    def is_maskless(self, num_keys: int) -> bool:
        """Whether a kernel needs no mask but the plain causal one, if any."""
        return self.mask is None and (self._is_square or self._is_open(num_keys))

    @property
    def _is_square(self) -> bool:
        """Whether query i sees key i and those before it."""
        before = self.query_start - self.key_start
        return self.query_stride == self.key_stride and 0 <= before < self.key_stride

    def _is_open(self, num_keys: int) -> bool:
        """Whether causality hides none of the keys."""
        last = self.key_start + (num_keys - 1) * self.key_stride
        return not self.causal or self.query_start >= last

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
        if self.is_maskless(num_keys):
            return None, self.causal and not self._is_open(num_keys)
        mask = self.additive_mask(q, num_keys, q.dtype)
        return (None if mask is None else mask[(None,) * (4 - mask.dim())]), False

    def _hidden(self, q: Tensor, num_keys: int) -> Tensor:
        """Where a key comes after the query."""
        queries = torch.arange(q.shape[-2], device=q.device) * self.query_stride
        keys = torch.arange(num_keys, device=q.device) * self.key_stride
        return keys + self.key_start > queries[:, None] + self.query_start

"""AttentionCall: everything an attention is told besides its tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class AttentionCall:
    """The settings of one call; see `attention` for their meaning.

    Keys are numbered from `key_start` on, of `num_keys` (0: all are here).
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

    @property
    def first(self) -> int:
        """The number of the first query, counted from the first key; negative where some queries
        come before every key."""
        return self.query_start - self.key_start

    def sees_nothing(self, q: Tensor) -> bool:
        """Whether all keys come after all queries."""
        return self.causal and self.first + q.shape[-2] <= 0

    def is_maskless(self, num_keys: int) -> bool:
        """Whether a kernel needs no mask but the plain causal one, if any."""
        return self.mask is None and (self.first == 0 or self._is_open(num_keys))

    def _is_open(self, num_keys: int) -> bool:
        """Whether causality hides none of the keys."""
        return not self.causal or self.first >= num_keys - 1

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
        queries = torch.arange(self.first, self.first + q.shape[-2], device=q.device)
        return torch.arange(num_keys, device=q.device) > queries[:, None]

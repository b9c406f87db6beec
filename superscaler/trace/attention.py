"""Scaled dot-product attention as one operator of ours."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt

import torch
from torch import Tensor

from superscaler.trace import autocast


def attention(
    next_id: Callable[[], int],
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """`aten.scaled_dot_product_attention`; groups of query heads share a key head by shape."""
    query, key, value = autocast.lower(query), autocast.lower(key), autocast.lower(value)
    attn_mask = autocast.lower(attn_mask)
    scale = 1 / sqrt(query.shape[-1]) if scale is None else scale
    op_id = next_id() if dropout_p else 0
    operands = [x.unsqueeze(0) if x.dim() == 2 else x for x in (query, key, value)]
    out: Tensor = torch.ops.superscaler.attention(
        *operands, attn_mask, dropout_p, is_causal, scale, op_id
    )[0]
    return out.view(*query.shape[:-1], value.shape[-1])

"""Attention over a block of the keys: partial results that can be merged, and what they come to.

A partial result is (..., queries, e + 1): the output of softmax over the keys seen so far, and,
last, the logarithm of the sum of their exponentials, in single precision at least. So that blocks
can be taken in any order, at most one at a time in memory. Source: online softmax, arXiv
1805.02867; blockwise attention, arXiv 2310.01889.
"""

from __future__ import annotations

import torch
from torch import Tensor

from superscaler.runtime.kernels import attention_fused, attention_math
from superscaler.runtime.kernels.attention_call import AttentionCall
from superscaler.runtime.kernels.attention_visible import Visible
from superscaler.runtime.kernels.library import define


def attention_block(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    dropout_p: float,
    causal: bool,
    scale: float,
    op_id: int,
    index: list[int] | tuple[int, ...] = (),
    query_start: int = 0,
    key_start: int = 0,
    num_keys: int = 0,
    query_stride: int = 1,
    key_stride: int = 1,
) -> Tensor:
    """The partial result of these keys; see `attention` for the arguments."""
    numbers = (query_start, key_start, num_keys, query_stride, key_stride)
    call = AttentionCall(mask, dropout_p, causal, scale, op_id, index, *numbers)
    cut = Visible.of(q, k, call)
    if cut.is_empty:
        return _nothing(q, k, v)
    partial = _partial(cut.queries(q), cut.keys(k), cut.keys(v), cut.call)
    if not cut.blind:
        return partial
    return torch.cat([_nothing(q[..., : cut.blind, :], k, v), partial], -2)


def _nothing(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The partial result of no keys."""
    nothing = _fake_block(q, k, v).zero_()
    nothing[..., -1] = -torch.inf
    return nothing


def _partial(q: Tensor, k: Tensor, v: Tensor, call: AttentionCall) -> Tensor:
    kernel = attention_fused.forward_kernel(q, k, v, call) if call.mask is None else None
    if kernel:
        q, k, v = attention_fused.with_dense_rows(q, k, v)
        out, logsumexp = kernel(q, k, v, call)
    else:
        out, logsumexp = attention_math.forward(q, k, v, call, blind=-torch.inf)
    return torch.cat([out.to(logsumexp.dtype), logsumexp[..., None]], -1)


def merge(a: Tensor, b: Tensor) -> Tensor:
    """The partial result of the keys of both.

    With sums l = exp(lse), out = (out_a l_a + out_b l_b) / (l_a + l_b); scaled by the larger.
    """
    total = torch.logaddexp(a[..., -1:], b[..., -1:])
    base = total.masked_fill(total == -torch.inf, 0)  # neither has seen a key
    outs = [x[..., :-1] * (x[..., -1:] - base).exp() for x in (a, b)]
    return torch.cat([outs[0] + outs[1], total], -1)


def attention_merged(partial: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Output and logsumexp, as `attention` gives them, of a partial result that has seen all."""
    logsumexp = partial[..., -1]
    blind = logsumexp == -torch.inf
    return partial[..., :-1].to(dtype).contiguous(), logsumexp.masked_fill(blind, 0)


def _fake_block(q: Tensor, k: Tensor, v: Tensor, *_: object) -> Tensor:
    lead = torch.broadcast_shapes(  # type: ignore[no-untyped-call]
        q.shape[:-3], k.shape[:-3], v.shape[:-3]
    )
    precision = torch.float32 if q.dtype.itemsize < 4 else q.dtype
    return q.new_empty((*lead, *q.shape[-3:-1], v.shape[-1] + 1), dtype=precision)


define(
    "attention_block(Tensor q, Tensor k, Tensor v, Tensor? mask, float dropout_p, bool causal, "
    "float scale, int op_id, int[] index=[], int query_start=0, int key_start=0, int num_keys=0, "
    "int query_stride=1, int key_stride=1) -> Tensor",
    attention_block,
    _fake_block,
)
define("attention_merged(Tensor partial, ScalarType dtype) -> (Tensor, Tensor)", attention_merged)

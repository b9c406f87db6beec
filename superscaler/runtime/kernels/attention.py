"""`superscaler::attention` and its backward: one operator on every device, exact under every plan.

Queries are (..., heads, queries, d); keys and values may have fewer heads (each then serves a
group of consecutive query heads) and dims of size 1 in front that are broadcast. A mask is boolean
(True: may look) or added to the scores, and broadcast. Causal queries are numbered from
`query_start` on, `query_stride` apart, keys likewise, of `num_keys` in all (0: these are all). A
query that may look at nothing gives zeros.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from superscaler.runtime.kernels import attention_fused, attention_math
from superscaler.runtime.kernels.attention_call import AttentionCall
from superscaler.runtime.kernels.attention_visible import Visible
from superscaler.runtime.kernels.library import LIBRARY, define

_SETTINGS = (
    "float dropout_p, bool causal, float scale, int op_id, int[] index=[], int query_start=0, "
    "int key_start=0, int num_keys=0, int query_stride=1, int key_stride=1"
)


def attention(
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
) -> tuple[Tensor, Tensor]:
    """The attention's output, and the logarithm of the sum of each query's exponentials."""
    numbers = (query_start, key_start, num_keys, query_stride, key_stride)
    call = AttentionCall(mask, dropout_p, causal, scale, op_id, index, *numbers)
    cut = Visible.of(q, k, call)
    if not cut.blind and not cut.is_empty:
        k, v, call = cut.keys(k), cut.keys(v), cut.call
    kernel = attention_fused.forward_kernel(q, k, v, call)
    if kernel:
        q, k, v = attention_fused.with_dense_rows(q, k, v)
        return kernel(q, k, v, call)
    return attention_math.forward(q, k, v, call)


def attention_backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    out: Tensor,
    logsumexp: Tensor,
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
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of queries, keys and values."""
    numbers = (query_start, key_start, num_keys, query_stride, key_stride)
    call = AttentionCall(mask, dropout_p, causal, scale, op_id, index, *numbers)
    cut = Visible.of(q, k, call)
    if cut.is_empty:
        return torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
    q, k, v, call = cut.queries(q), cut.keys(k), cut.keys(v), cut.call
    grad, out, logsumexp = cut.queries(grad), cut.queries(out), cut.queries(logsumexp, -1)
    kernel = attention_fused.backward_kernel(q, k, v, call)
    if kernel:
        grad, q, k, v, out = attention_fused.with_dense_rows(grad, q, k, v, out)
        dq, dk, dv = kernel(grad, q, k, v, out, logsumexp, call)
    else:
        dq, dk, dv, _ = attention_math.backward(grad, q, k, v, out, logsumexp, call)
    return cut.all_queries(dq), cut.all_keys(dk), cut.all_keys(dv)


def attention_backward_mask(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor,
    out: Tensor,
    logsumexp: Tensor,
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
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of queries, keys, values and the added mask."""
    numbers = (query_start, key_start, num_keys, query_stride, key_stride)
    call = AttentionCall(mask, dropout_p, causal, scale, op_id, index, *numbers)
    dq, dk, dv, scores = attention_math.backward(grad, q, k, v, out, logsumexp, call)
    return dq, dk, dv, scores.sum_to_size(mask.shape).to(mask.dtype)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, mask, *ctx.settings = inputs
    out, logsumexp = output
    ctx.mark_non_differentiable(logsumexp)
    ctx.save_for_backward(q, k, v, mask, out, logsumexp)


def _backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    q, k, v, mask, out, logsumexp = ctx.saved_tensors
    ops = torch.ops.superscaler
    wants_mask = ctx.needs_input_grad[3]
    operator = ops.attention_backward_mask if wants_mask else ops.attention_backward
    grads = operator(grad, q, k, v, mask, out, logsumexp, *ctx.settings)
    return (*grads, *[None] * (14 - len(grads)))


def _fake_forward(q: Tensor, k: Tensor, v: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    lead = torch.broadcast_shapes(  # type: ignore[no-untyped-call]
        q.shape[:-3], k.shape[:-3], v.shape[:-3]
    )
    rows = (*lead, *q.shape[-3:-1])
    precision = torch.float32 if q.dtype.itemsize < 4 else q.dtype
    return q.new_empty((*rows, v.shape[-1])), q.new_empty(rows, dtype=precision)


def _fake_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, *_: Any
) -> tuple[Tensor, Tensor, Tensor]:
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


def _fake_backward_mask(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, mask: Tensor, *_: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return (*_fake_backward(grad, q, k, v), mask.new_empty(mask.shape))


define(
    f"attention(Tensor q, Tensor k, Tensor v, Tensor? mask, {_SETTINGS}) -> (Tensor, Tensor)",
    attention,
    _fake_forward,
)
define(
    "attention_backward(Tensor grad, Tensor q, Tensor k, Tensor v, Tensor? mask, Tensor out, "
    f"Tensor logsumexp, {_SETTINGS}) -> (Tensor, Tensor, Tensor)",
    attention_backward,
    _fake_backward,
)
define(
    "attention_backward_mask(Tensor grad, Tensor q, Tensor k, Tensor v, Tensor mask, Tensor out, "
    f"Tensor logsumexp, {_SETTINGS}) -> (Tensor, Tensor, Tensor, Tensor)",
    attention_backward_mask,
    _fake_backward_mask,
)
torch.library.register_autograd(
    "superscaler::attention", _backward, setup_context=_setup, lib=LIBRARY
)

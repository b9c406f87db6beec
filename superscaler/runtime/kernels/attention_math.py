"""Attention in plain tensor operations: any mask, dropout, shapes and precision, on any device."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from superscaler.runtime.kernels.attention_call import AttentionCall
from superscaler.runtime.kernels.random import draw_bits, keep_factors


def forward(
    q: Tensor, k: Tensor, v: Tensor, call: AttentionCall, blind: float = 0
) -> tuple[Tensor, Tensor]:
    """The output, and the logsumexp of each query's scores: `blind` of one that sees no key, 0 as
    torch's kernels give unless told otherwise."""
    k, v = _all_heads(k, q), _all_heads(v, q)
    scores = _scores(q, k, call)
    logsumexp = torch.logsumexp(scores, -1)
    sees_none = logsumexp == -torch.inf
    weights = (scores - logsumexp.masked_fill(sees_none, 0)[..., None]).exp_()
    kept = _kept(weights, call)
    if kept is not None:
        weights = weights.mul_(kept)
    out = weights.to(v.dtype) @ v
    return out, logsumexp.masked_fill_(sees_none, blind).expand(out.shape[:-1])


def backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    logsumexp: Tensor,
    call: AttentionCall,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of q, k, v and of the scores."""
    every_k, every_v = _all_heads(k, q), _all_heads(v, q)
    weights = (_scores(q, every_k, call) - logsumexp[..., None]).exp_()
    kept = _kept(weights, call)
    dropped = weights if kept is None else weights * kept
    dv = dropped.to(grad.dtype).mT @ grad
    dweights = (grad @ every_v.mT).to(weights.dtype)
    if kept is not None:
        dweights = dweights.mul_(kept)
    delta = (grad.to(weights.dtype) * out.to(weights.dtype)).sum(-1, keepdim=True)
    dscores = (dweights - delta) * weights
    scaled = (dscores * call.scale).to(q.dtype)
    dq = (scaled @ every_k).sum_to_size(q.shape)
    return dq, _own_heads(scaled.mT @ q, k), _own_heads(dv, v), dscores


def _all_heads(x: Tensor, q: Tensor) -> Tensor:
    """Keys or values once for every query head."""
    if x.dim() < 3 or x.shape[-3] == q.shape[-3]:
        return x
    return x.repeat_interleave(q.shape[-3] // x.shape[-3], -3)


def _own_heads(grad: Tensor, x: Tensor) -> Tensor:
    """The gradient of `x` from that of `_all_heads(x)`, summed over what was broadcast."""
    if x.dim() > 2 and grad.shape[-3] != x.shape[-3]:
        grad = grad.reshape(*grad.shape[:-3], x.shape[-3], -1, *grad.shape[-2:]).sum(-3)
    return grad.sum_to_size(x.shape)


def _scores(q: Tensor, k: Tensor, call: AttentionCall) -> Tensor:
    """Scaled and masked products of queries and keys, in single precision at least."""
    product = q @ k.mT
    scores = product.to(torch.float32 if q.dtype.itemsize < 4 else q.dtype).mul_(call.scale)
    mask = call.additive_mask(q, k.shape[-2], scores.dtype)
    return scores if mask is None else scores + mask


def _kept(weights: Tensor, call: AttentionCall) -> Tensor | None:
    """Dropout's factors by (query, key); the index says which queries of the whole these are."""
    if not call.dropout_p:
        return None
    factors = torch.empty_like(weights)
    flat = factors.view(prod(weights.shape[:-1]), weights.shape[-1])
    index = _with_keys(call, weights)
    for rows, bits in draw_bits(weights.shape, call.op_id, index, weights.device):
        flat[rows] = keep_factors(bits, call.dropout_p, weights.dtype)
    return factors


def _with_keys(call: AttentionCall, weights: Tensor) -> list[int]:
    """The index of the queries (..., queries, d) with its last dim replaced by the keys."""
    numbers = list(call.index)
    at, found = 0, []
    for _ in weights.shape[:-1] if numbers else ():
        stop = at + 1 + 3 * numbers[at]
        found += numbers[at:stop]
        at = stop
    keys, stride = weights.shape[-1], call.key_stride
    rows = ((call.num_keys or keys * stride) // stride, call.key_start // stride, keys)
    return [*found, 2, *rows, stride, call.key_start % stride, 1] if found else []

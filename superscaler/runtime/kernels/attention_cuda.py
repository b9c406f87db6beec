"""Attention by torch's CUDA kernels: flash for half precision, memory-efficient otherwise."""

from __future__ import annotations

import torch
from torch import Tensor

from superscaler.runtime.kernels.attention_call import AttentionCall

aten = torch.ops.aten

_ALIGNED = 16  # elements that a row of an added mask is padded to
_ROWS = 32  # queries that the memory-efficient kernel pads its logsumexp to


def is_supported(q: Tensor) -> bool:
    """Whether the kernels know the dtype and the head dim."""
    return q.dtype in (torch.float16, torch.bfloat16, torch.float32) and q.shape[-1] % 8 == 0


def forward(q: Tensor, k: Tensor, v: Tensor, call: AttentionCall) -> tuple[Tensor, Tensor]:
    """Output and logsumexp."""
    if _is_flash(q, k, call):
        found = aten._scaled_dot_product_flash_attention(
            q, k, v, 0.0, call.kernel_mask(q, k.shape[2])[1], False, scale=call.scale
        )
        return found[0], found[1]
    bias, causal = _bias(q, k, call)
    out, logsumexp, _, _ = aten._scaled_dot_product_efficient_attention(
        q, _all_heads(k, q), _all_heads(v, q), bias, True, 0.0, causal, scale=call.scale
    )
    return out, logsumexp[..., : q.shape[2]]


def backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    logsumexp: Tensor,
    call: AttentionCall,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of queries, keys and values."""
    unused = torch.empty((), dtype=torch.int64, device=q.device)  # random state, without dropout
    if _is_flash(q, k, call):
        sizes = (q.shape[2], k.shape[2])
        found: tuple[Tensor, Tensor, Tensor] = aten._scaled_dot_product_flash_attention_backward(
            grad, q, k, v, out, logsumexp.contiguous(), None, None, *sizes, 0.0,
            call.kernel_mask(q, k.shape[2])[1], unused, unused, scale=call.scale,
        )  # fmt: skip
        return found
    bias, causal = _bias(q, k, call)
    padding = -q.shape[2] % _ROWS
    padded = torch.nn.functional.pad(logsumexp, (0, padding), value=torch.inf)
    wanted = [True, True, True, False]
    dq, dk, dv, _ = aten._scaled_dot_product_efficient_attention_backward(
        grad, q, _all_heads(k, q), _all_heads(v, q), bias, out, padded, unused, unused, 0.0,
        wanted, causal, scale=call.scale,
    )  # fmt: skip
    return dq, _own_heads(dk, k), _own_heads(dv, v)


def _is_flash(q: Tensor, k: Tensor, call: AttentionCall) -> bool:
    is_half = q.dtype != torch.float32
    return is_half and call.is_maskless(k.shape[2]) and q.shape[-1] <= 256


def _bias(q: Tensor, k: Tensor, call: AttentionCall) -> tuple[Tensor | None, bool]:
    """The mask to add, its rows aligned in memory, and whether the kernel itself is causal."""
    mask, causal = call.kernel_mask(q, k.shape[2])
    if mask is None:
        return None, causal
    rows = torch.nn.functional.pad(mask, (0, -mask.shape[-1] % _ALIGNED))
    bias = rows[..., : mask.shape[-1]]
    return bias.expand(*q.shape[:3], k.shape[2]), causal


def _all_heads(x: Tensor, q: Tensor) -> Tensor:
    return x if x.shape[1] == q.shape[1] else x.repeat_interleave(q.shape[1] // x.shape[1], 1)


def _own_heads(grad: Tensor, x: Tensor) -> Tensor:
    if grad.shape == x.shape:
        return grad
    return grad.reshape(*x.shape[:2], -1, *grad.shape[2:]).sum(2)

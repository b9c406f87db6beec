"""Attention by torch's fused kernels, for the cases that they can do."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from superscaler.runtime.kernels import attention_cuda
from superscaler.runtime.kernels.attention_call import AttentionCall

aten = torch.ops.aten

Forward = Callable[[Tensor, Tensor, Tensor, AttentionCall], tuple[Tensor, Tensor]]
Backward = Callable[..., tuple[Tensor, Tensor, Tensor]]


def forward_kernel(q: Tensor, k: Tensor, v: Tensor, call: AttentionCall) -> Forward | None:
    """The fused kernel for this call; None when plain operations must do."""
    return {"cpu": _cpu_forward, "cuda": attention_cuda.forward}.get(_device(q, k, v, call))


def backward_kernel(q: Tensor, k: Tensor, v: Tensor, call: AttentionCall) -> Backward | None:
    """The backward of `forward_kernel`."""
    return {"cpu": _cpu_backward, "cuda": attention_cuda.backward}.get(_device(q, k, v, call))


def with_dense_rows(*tensors: Tensor) -> list[Tensor]:
    """The tensors, copied where the elements of a row do not lie together.

    The kernels need that and the one for CPUs does not check: it gives wrong results (torch 2.13).
    """
    return [x if x.stride(-1) == 1 else x.contiguous() for x in tensors]


def _device(q: Tensor, k: Tensor, v: Tensor, call: AttentionCall) -> str:
    """The device type whose fused kernel can do this call, or ""."""
    if q.device.type == "cuda" and not attention_cuda.is_supported(q):
        return ""
    return q.device.type if _is_plain(q, k, v, call) else ""


def _is_plain(q: Tensor, k: Tensor, v: Tensor, call: AttentionCall) -> bool:
    """Four dims, nothing broadcast but key heads and the mask, equal head dims, no dropout."""
    return (
        q.dim() == k.dim() == v.dim() == 4
        and q.shape[0] == k.shape[0] == v.shape[0]
        and q.shape[3] == k.shape[3] == v.shape[3]
        and k.shape[1:3] == v.shape[1:3]
        and call.dropout_p == 0
        and call.visible(q.shape[2], k.shape[2])[0] == 0  # not-a-number where nothing is seen
        and min(q.numel(), k.numel()) > 0
    )


def _cpu_forward(q: Tensor, k: Tensor, v: Tensor, call: AttentionCall) -> tuple[Tensor, Tensor]:
    mask, causal = call.kernel_mask(q, k.shape[2])
    found: tuple[Tensor, Tensor] = aten._scaled_dot_product_flash_attention_for_cpu(
        q, k, v, 0.0, causal, attn_mask=mask, scale=call.scale
    )
    return found


def _cpu_backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    logsumexp: Tensor,
    call: AttentionCall,
) -> tuple[Tensor, Tensor, Tensor]:
    mask, causal = call.kernel_mask(q, k.shape[2])
    found: tuple[Tensor, Tensor, Tensor] = (
        aten._scaled_dot_product_flash_attention_for_cpu_backward(
            grad, q, k, v, out, logsumexp, 0.0, causal, attn_mask=mask, scale=call.scale
        )
    )
    return found

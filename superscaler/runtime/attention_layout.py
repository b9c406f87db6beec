"""Attention by its plain formula, laid out in memory as the kernel that torch would choose does it.

A model may view that result as it lies: the fused kernels put it as the queries lie, the formula
puts one head after the other. (`torch._fused_sdp_choice`; tried with torch 2.11, 2.13 and 2.14.)
"""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel


@contextlib.contextmanager
def plain_attention() -> Iterator[None]:
    """Inside, `torch.nn.functional.scaled_dot_product_attention` is the formula, which draws its
    dropout by `aten.dropout`."""
    allowed, whole = _allowed(), functional.scaled_dot_product_attention

    def attention(query: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        result = whole(query, *args, **kwargs)
        with sdpa_kernel(allowed):
            chosen = torch._fused_sdp_choice(query, *args, **kwargs)
        return result if chosen == SDPBackend.MATH.value else as_laid_out(result, query)

    patched = patch.object(functional, "scaled_dot_product_attention", attention)
    with sdpa_kernel(SDPBackend.MATH), patched:
        yield


def as_laid_out(result: Tensor, like: Tensor) -> Tensor:
    """`result` with its dimensions in memory in the order of those of `like`."""
    order = sorted(range(like.dim()), key=lambda d: like.stride(d), reverse=True)
    back = [order.index(d) for d in range(like.dim())]
    return result.permute(order).contiguous().permute(back)


def _allowed() -> list[SDPBackend]:
    """The kernels that the user lets torch choose from."""
    cuda = torch.backends.cuda
    switches = {
        SDPBackend.MATH: cuda.math_sdp_enabled(),
        SDPBackend.FLASH_ATTENTION: cuda.flash_sdp_enabled(),
        SDPBackend.EFFICIENT_ATTENTION: cuda.mem_efficient_sdp_enabled(),
        SDPBackend.CUDNN_ATTENTION: cuda.cudnn_sdp_enabled(),
    }
    return [backend for backend, is_on in switches.items() if is_on]

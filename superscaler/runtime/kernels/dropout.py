"""`superscaler::dropout` and `superscaler::uniform`: random by element, equal under every plan."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from superscaler.runtime.kernels.library import LIBRARY, define
from superscaler.runtime.kernels.random import draw_bits, keep_factors

_BITS = {torch.bfloat16: 8, torch.float16: 11, torch.float32: 24, torch.float64: 32}


def dropout(x: Tensor, p: float, op_id: int, index: list[int]) -> Tensor:
    """Zeros with probability p, else x / (1 - p); its gradient is itself, of the gradient."""
    if p == 0:
        return x.clone()
    if p == 1:
        return torch.zeros_like(x)
    flat = x.reshape(-1, x.shape[-1]) if x.dim() else x.reshape(1, 1)
    out = torch.empty(flat.shape, dtype=x.dtype, device=x.device)
    for rows, bits in draw_bits(x.shape, op_id, index, x.device):
        torch.mul(flat[rows], keep_factors(bits, p, x.dtype), out=out[rows])
    return out.reshape(x.shape)


def uniform(
    size: list[int],
    op_id: int,
    index: list[int],
    dtype: torch.dtype | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """Numbers in [0, 1), never rounded to 1: as many bits as the dtype holds."""
    dtype = dtype or torch.get_default_dtype()
    device = device or torch.device("cpu")
    num_bits = _BITS[dtype]
    out = torch.empty(size, dtype=dtype, device=device)
    flat = out.view(-1, size[-1]) if size else out.view(1, 1)
    for rows, bits in draw_bits(size, op_id, index, device):
        steps = bits >> (32 - num_bits)
        flat[rows] = steps.to(dtype).mul_(2.0**-num_bits).add_(0.5)
    return out


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, ctx.p, ctx.op_id, ctx.index = inputs


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return torch.ops.superscaler.dropout(grad, ctx.p, ctx.op_id, ctx.index), None, None, None


def _fake_uniform(
    size: list[int],
    op_id: int,
    index: list[int],
    dtype: torch.dtype | None = None,
    device: torch.device | None = None,
) -> Tensor:
    return torch.empty(size, dtype=dtype, device=device)


define(
    "dropout(Tensor x, float p, int op_id, int[] index) -> Tensor",
    dropout,
    lambda x, p, op_id, index: torch.empty(x.shape, dtype=x.dtype, device=x.device),
)
torch.library.register_autograd(
    "superscaler::dropout", _backward, setup_context=_setup, lib=LIBRARY
)
define(
    "uniform(int[] size, int op_id, int[] index, *, ScalarType? dtype=None, Device? device=None) "
    "-> Tensor",
    uniform,
    _fake_uniform,
)

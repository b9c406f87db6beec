"""Linear layers as view, mm, view and add, with a backward of as few operators."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from superscaler.trace import autocast


class _Linear(torch.autograd.Function):
    """x @ weight.t() + bias, with the leading dims of x merged for the product.

    Torch's own formula transposes the weight's gradient twice; this one takes it as it comes.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        ctx.save_for_backward(rows, weight)
        ctx.shape = x.shape
        ctx.has_bias = bias is not None
        shape = (*x.shape[:-1], weight.shape[0])
        # No view: of a custom function's views none may be changed in place.
        out: Tensor = torch.ops.aten._unsafe_view.default(torch.mm(rows, weight.t()), shape)
        return out if bias is None else out + bias

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight = ctx.saved_tensors
        grad = grads[0].reshape(-1, weight.shape[0])
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        grad_x = torch.mm(grad, weight).view(ctx.shape) if needs_x else None
        grad_weight = torch.mm(grad.t(), rows) if needs_weight else None
        grad_bias = grad.sum(0) if ctx.has_bias and needs_bias else None
        return grad_x, grad_weight, grad_bias


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`aten.linear`."""
    x, weight, bias = autocast.lower(x), autocast.lower(weight), autocast.lower(bias)
    if weight.dim() == 1:
        out = torch.mv(x.reshape(-1, x.shape[-1]), weight).view(x.shape[:-1])
        return out if bias is None else out + bias
    return _Linear.apply(x, weight, bias)  # type: ignore[no-any-return, no-untyped-call]

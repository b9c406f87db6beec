"""Batch norm as sums over the batch, so that its statistics are exact under any split."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def batch_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool = False,
) -> Tensor:
    """`aten.batch_norm`; in training the running statistics are updated in place."""
    half = x.dtype in (torch.bfloat16, torch.float16)
    wide = x.float() if half else x
    dims = [d for d in range(x.dim()) if d != 1]
    shape = [-1 if d == 1 else 1 for d in range(x.dim())]
    if training:
        scale = None if weight is None else weight.to(wide.dtype)
        out, mean, var = _BatchNorm.apply(  # type: ignore[no-untyped-call]
            wide, scale, dims, eps
        )
        _update_running(running_mean, running_var, mean, var, momentum, x.numel() // x.shape[1])
    else:
        assert running_mean is not None
        assert running_var is not None
        scale = (running_var + eps).rsqrt()
        scale = scale if weight is None else scale * weight
        out = (wide - running_mean.view(shape)) * scale.view(shape)
    out = out if bias is None else out + bias.view(shape)
    result: Tensor = out.to(x.dtype) if half else out
    return result


class _BatchNorm(torch.autograd.Function):
    """x normalised and scaled, its mean and its biased variance; the two are not differentiated."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, dims: list[int], eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        shape = [-1 if d == 1 else 1 for d in range(x.dim())]
        count = x.numel() // x.shape[1]
        mean = x.sum(dims) / count
        centered = x - mean.view(shape)
        var = (centered * centered).sum(dims) / count
        inverse = (var + eps).rsqrt()
        normal = centered * inverse.view(shape)
        ctx.save_for_backward(normal, inverse, weight)
        ctx.dims, ctx.count = dims, count
        ctx.mark_non_differentiable(mean, var)
        return (normal if weight is None else normal * weight.view(shape)), mean, var

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        normal, inverse, weight = ctx.saved_tensors
        grad = grads[0]
        shape = [-1 if d == 1 else 1 for d in range(grad.dim())]
        total = grad.sum(ctx.dims)
        along = (grad * normal).sum(ctx.dims)
        grad_x = None
        if ctx.needs_input_grad[0]:
            rest = grad - (total / ctx.count).view(shape) - normal * (along / ctx.count).view(shape)
            scale = inverse if weight is None else inverse * weight
            grad_x = rest * scale.view(shape)
        return grad_x, None if weight is None else along, None, None


def _update_running(
    running_mean: Tensor | None,
    running_var: Tensor | None,
    mean: Tensor,
    var: Tensor,
    momentum: float,
    count: int,
) -> None:
    """The running statistics; the variance kept there is the unbiased one."""
    with torch.no_grad():
        for running, new, factor in (
            (running_mean, mean, 1.0),
            (running_var, var, count / max(count - 1, 1)),
        ):
            if running is not None:
                kept = running * (1 - momentum)
                running.copy_(kept + (new * (momentum * factor)).to(running.dtype))

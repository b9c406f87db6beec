"""Cross entropy and its pieces, exact under any split of the batch and of the classes.

Everything over the classes is an element-wise operator, a sum, a maximum or a gather; the
backward reads the exponentials that the forward made, four passes in all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from superscaler.trace import autocast

_MEAN, _SUM = 1, 2  # ATen's numbers of the reductions; 0 is none


def cross_entropy_loss(
    x: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    reduction: int = _MEAN,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
) -> Tensor:
    """`aten.cross_entropy_loss`, of class indices or of class probabilities."""
    x, weight = autocast.raised(x), autocast.raised(weight)
    if target.is_floating_point():
        return _of_probabilities(x, target, weight, reduction, label_smoothing)
    dim = _class_dim(x)
    ignored = target == ignore_index
    index = target.masked_fill(ignored, 0)
    wide = _widen(x)
    rows = _Rows(dim, label_smoothing)
    wide_weight = None if weight is None else weight.to(wide.dtype)
    loss: Tensor = _CrossEntropy.apply(  # type: ignore[no-untyped-call]
        wide, index, ignored, wide_weight, rows
    )
    if reduction == _MEAN:
        total = loss.sum() / _total_weight(ignored, index, wide_weight)
        return total.to(x.dtype)
    return (loss.sum() if reduction == _SUM else loss).to(x.dtype)


def nll_loss(
    x: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    reduction: int = _MEAN,
    ignore_index: int = -100,
) -> Tensor:
    """`aten.nll_loss_nd`: x are log-probabilities."""
    x, weight = autocast.raised(x), autocast.raised(weight)
    ignored = target == ignore_index
    index = target.masked_fill(ignored, 0)
    picked: Tensor = _Pick.apply(x, index, _class_dim(x))  # type: ignore[no-untyped-call]
    loss = -picked
    if weight is not None:
        loss = loss * weight[index]
    loss = loss.masked_fill(ignored, 0.0)
    if reduction == _MEAN:
        return loss.sum() / _total_weight(ignored, index, weight)
    return loss.sum() if reduction == _SUM else loss


def log_softmax(x: Tensor, dim: int, dtype: torch.dtype | None = None) -> Tensor:
    """`aten.log_softmax.int`."""
    x = autocast.raised(x) if dtype is None else x.to(dtype)
    out: Tensor = _LogSoftmax.apply(_widen(x), dim % max(1, x.dim()))  # type: ignore[no-untyped-call]
    return out.to(x.dtype)


def _of_probabilities(
    x: Tensor, target: Tensor, weight: Tensor | None, reduction: int, smoothing: float
) -> Tensor:
    dim = _class_dim(x)
    classes = x.shape[dim]
    if smoothing:
        target = target * (1 - smoothing) + smoothing / classes
    terms = log_softmax(x, dim) * target
    if weight is not None:
        terms = terms * _along(weight, dim, x.dim())
    loss = -terms.sum(dim)
    if reduction == _MEAN:
        return loss.sum() / (x.numel() // classes)
    return loss.sum() if reduction == _SUM else loss


@dataclass(frozen=True)
class _Rows:
    """How the rows of a cross entropy lie and are smoothed."""

    dim: int
    smoothing: float


class _CrossEntropy(torch.autograd.Function):
    """The loss of each row; rows that are ignored lose nothing."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, index: Tensor, ignored: Tensor, weight: Tensor | None, rows: _Rows
    ) -> Tensor:
        dim = rows.dim
        peak = x.amax(dim, keepdim=True)
        shifted = x - peak
        exps = shifted.exp()
        total = exps.sum(dim, keepdim=True)
        log_total = total.log()
        row_weight = None if weight is None else weight[index].unsqueeze(dim)
        ctx.save_for_backward(exps, total, index, ignored, weight, row_weight)
        ctx.rows = rows
        loss = log_total - shifted.gather(dim, index.unsqueeze(dim))
        if row_weight is not None:
            loss = loss * row_weight
        if rows.smoothing:
            loss = loss * (1 - rows.smoothing) + _smooth_loss(shifted, log_total, weight, rows)
        return loss.squeeze(dim).masked_fill(ignored, 0.0)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        exps, total, index, ignored, weight, row_weight = ctx.saved_tensors
        dim, smoothing = ctx.rows.dim, ctx.rows.smoothing
        grad = grads[0].masked_fill(ignored, 0.0).unsqueeze(dim)
        at_target = grad if row_weight is None else grad * row_weight
        everywhere = at_target
        if smoothing:
            each = grad * (smoothing / exps.shape[dim])
            at_target = at_target * (1 - smoothing)
            mass = exps.shape[dim] if weight is None else weight.sum()
            everywhere = at_target + each * mass
            each = each if weight is None else each * _along(weight, dim, exps.dim())
        hit = _iota(exps, dim) == index.unsqueeze(dim)
        result = exps * (everywhere / total) - hit * at_target
        return (result - each if smoothing else result), None, None, None, None


def _smooth_loss(shifted: Tensor, log_total: Tensor, weight: Tensor | None, rows: _Rows) -> Tensor:
    """smoothing / classes x the (weighted) sum over the classes of the negative log-softmax."""
    classes = shifted.shape[rows.dim]
    if weight is None:
        loss = log_total * classes - shifted.sum(rows.dim, keepdim=True)
    else:
        weighted = shifted * _along(weight, rows.dim, shifted.dim())
        loss = log_total * weight.sum() - weighted.sum(rows.dim, keepdim=True)
    return loss * (rows.smoothing / classes)


class _LogSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, dim: int) -> Tensor:
        shifted = x - x.amax(dim, keepdim=True)
        out = shifted - shifted.exp().sum(dim, keepdim=True).log()
        ctx.save_for_backward(out)
        ctx.dim = dim
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (out,) = ctx.saved_tensors
        return grads[0] - out.exp() * grads[0].sum(ctx.dim, keepdim=True), None


class _Pick(torch.autograd.Function):
    """One element of each row; the backward is a comparison, not a scatter."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, dim: int) -> Tensor:
        ctx.save_for_backward(x, index)
        ctx.dim = dim
        return x.gather(dim, index.unsqueeze(dim)).squeeze(dim)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, index = ctx.saved_tensors
        hit = _iota(x, ctx.dim) == index.unsqueeze(ctx.dim)
        return hit * grads[0].unsqueeze(ctx.dim), None, None


def _total_weight(ignored: Tensor, index: Tensor, weight: Tensor | None) -> Tensor:
    """What a mean loss is divided by: the weights of the targets that count, or their number."""
    if weight is None:
        return ignored.logical_not().sum()
    return weight[index].masked_fill(ignored, 0.0).sum()


def _class_dim(x: Tensor) -> int:
    return 0 if x.dim() == 1 else 1


def _widen(x: Tensor) -> Tensor:
    """Half precision is computed in float32, as torch's kernels do inside."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def _along(vector: Tensor, dim: int, num_dims: int) -> Tensor:
    """A vector as a tensor that broadcasts along `dim`."""
    return vector.view([-1 if d == dim else 1 for d in range(num_dims)])


def _iota(x: Tensor, dim: int) -> Tensor:
    """The class numbers, along `dim`."""
    return _along(torch.arange(x.shape[dim], device=x.device), dim, x.dim())

"""`superscaler::grouped_mm`: one matrix product per group of rows, in every floating-point type."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from superscaler.runtime.kernels.library import LIBRARY, define


def grouped_mm(a: Tensor, b: Tensor, ends: Tensor) -> Tensor:
    """Products by group, where group g has the rows from `ends[g - 1]` to `ends[g]`.

    Rows times weights, (m, k) x (groups, k, n) -> (m, n): each group of a's rows by its matrix;
    rows after the last group give zeros. Groups of the contracted dim, (m, k) x (k, n) ->
    (groups, m, n): the weights' gradient.
    """
    return grouped_mm_part(a, b, ends, 0, len(ends), 0)


def grouped_mm_part(
    a: Tensor, b: Tensor, ends: Tensor, first_group: int, num_groups: int, first: int
) -> Tensor:
    """The products of some groups, and of the rows (or contracted elements) from `first` on.

    `ends` is that of the whole. Rows of other groups give zeros.
    """
    count = a.shape[1] if b.dim() == 2 else a.shape[0]
    places = [min(max(end - first, 0), count) for end in [0, *ends.tolist()]]
    bounds = list(enumerate(pairwise(places[first_group : first_group + num_groups + 1])))
    if b.dim() == 2:
        out = a.new_zeros((num_groups, a.shape[0], b.shape[1]))
        for g, (start, stop) in bounds:
            torch.mm(a[:, start:stop], b[start:stop], out=out[g])
        return out
    out = a.new_zeros((a.shape[0], b.shape[2]))
    for g, (start, stop) in bounds:
        torch.mm(a[start:stop], b[g], out=out[start:stop])
    return out


def _fake(a: Tensor, b: Tensor, ends: Tensor) -> Tensor:
    shape = (a.shape[0], b.shape[-1])
    return a.new_empty((len(ends), *shape) if b.dim() == 2 else shape)


def _fake_part(
    a: Tensor, b: Tensor, ends: Tensor, first_group: int, num_groups: int, first: int
) -> Tensor:
    shape = (a.shape[0], b.shape[-1])
    return a.new_empty((num_groups, *shape) if b.dim() == 2 else shape)


def _setup(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    """Of rows times weights."""
    a, b, ends = ctx.saved_tensors
    product = torch.ops.superscaler.grouped_mm
    grad_a = product(grad, b.transpose(1, 2), ends) if ctx.needs_input_grad[0] else None
    grad_b = product(a.t(), grad, ends) if ctx.needs_input_grad[1] else None
    return grad_a, grad_b, None


define("grouped_mm(Tensor a, Tensor b, Tensor ends) -> Tensor", grouped_mm, _fake)
define(
    "grouped_mm_part(Tensor a, Tensor b, Tensor ends, int first_group, int num_groups, int first) "
    "-> Tensor",
    grouped_mm_part,
    _fake_part,
)
torch.library.register_autograd(
    "superscaler::grouped_mm", _backward, setup_context=_setup, lib=LIBRARY
)

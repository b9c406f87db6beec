"""Gradient clipping by the global norm, as ordinary operators of the graph."""

from __future__ import annotations

import torch

from superscaler.graph.operator import Phase
from superscaler.trace.draft import Draft, Value

_MODULE = "clip_grad_norm"
_EPSILON = 1e-6  # that of torch.nn.utils.clip_grad_norm_


def clip_gradients(
    draft: Draft, grads: dict[str, int], max_norm: float
) -> tuple[dict[str, int], int]:
    """Draft what `torch.nn.utils.clip_grad_norm_` computes: the clipped gradients and the norm.

    norm = sqrt(sum over parameters of sum(grad ** 2))
    grad -> grad * min(1, max_norm / (norm + 1e-6))
    """
    total = None
    for name, grad in grads.items():
        square_sum = _square_sum(draft, name, grad)
        total = (
            square_sum if total is None else _scalar(draft, "aten.add.Tensor", total, square_sum)
        )
    assert total is not None
    norm = _scalar(draft, "aten.sqrt.default", total)
    shifted = _scalar(draft, "aten.add.Tensor", norm, number=_EPSILON)
    inverse = _scalar(draft, "aten.reciprocal.default", shifted)
    ratio = _scalar(draft, "aten.mul.Tensor", inverse, number=float(max_norm))
    factor = _scalar(draft, "aten.clamp_max.default", ratio, number=1.0)
    return {name: _scaled(draft, name, grad, factor) for name, grad in grads.items()}, norm


def _square_sum(draft: Draft, name: str, grad: int) -> int:
    if draft.tensors[grad].dtype.is_complex:
        grad = _as_real(draft, name, grad)
    shape, dtype = draft.tensors[grad].shape, draft.tensors[grad].dtype
    if dtype.itemsize < 4:
        grad = _call(
            draft, "aten._to_copy.default", f"{name}.norm", shape, grad, dtype=torch.float32
        )
    square = _call(draft, "aten.pow.Tensor_Scalar", f"{name}.norm.square", shape, grad, 2)
    if not shape:
        return square
    return _call(draft, "aten.sum.default", f"{name}.norm.sum", (), square)


def _as_real(draft: Draft, name: str, grad: int) -> int:
    """Real and imaginary parts, as a last dim of two."""
    shape, dtype = draft.tensors[grad].shape, draft.tensors[grad].dtype
    details = {"phase": Phase.BACKWARD, "module": _MODULE, "name": f"{name}.norm.real"}
    parts = [((*shape, 2), dtype.to_real())]
    return draft.call("aten.view_as_real.default", (Value(grad),), {}, parts, **details)[0]


def _scaled(draft: Draft, name: str, grad: int, factor: int) -> int:
    shape, dtype = draft.tensors[grad].shape, draft.tensors[grad].dtype
    if not shape and draft.tensors[factor].dtype != dtype:
        factor = _call(draft, "aten._to_copy.default", f"{name}.factor", (), factor, dtype=dtype)
    return _call(draft, "aten.mul.Tensor", f"{name}.clip", shape, grad, Value(factor))


def _scalar(draft: Draft, target: str, *tensors: int, number: float | None = None) -> int:
    rest = [Value(t) for t in tensors[1:]] + ([] if number is None else [number])
    return _call(draft, target, "", (), tensors[0], *rest)


def _call(
    draft: Draft,
    target: str,
    name: str,
    shape: tuple[int, ...],
    first: int,
    *rest: object,
    dtype: torch.dtype | None = None,
) -> int:
    kwargs = {} if dtype is None else {"dtype": dtype}
    result = [(shape, dtype or draft.tensors[first].dtype)]
    details = {"phase": Phase.BACKWARD, "module": _MODULE, "name": name}
    return draft.call(target, (Value(first), *rest), kwargs, result, **details)[0]

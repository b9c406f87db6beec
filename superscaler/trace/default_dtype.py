"""The default dtype that the step ran under, and the operators whose results depend on it.

A step may set it (a float64 verification does), so the graph must not depend on what it is later.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

_PROMOTING = frozenset(
    f"aten.{name}.{overload}"
    for names, overloads in (
        ("add sub mul div rsub atan2", "Tensor Scalar"),
        ("pow", "Tensor_Tensor Tensor_Scalar Scalar"),
        ("sqrt rsqrt exp exp2 log log1p log2 sin cos tan tanh sigmoid reciprocal erf", "default"),
    )
    for name in names.split()
    for overload in overloads.split()
)
_CHOOSING = frozenset(
    f"aten.where.{overload}" for overload in ("ScalarSelf", "ScalarOther", "Scalar")
)


def default_dtype_of(module: fx.GraphModule) -> torch.dtype:
    """The dtype of the first floating-point result that no operand decides."""
    for part in module.modules():
        if isinstance(part, fx.GraphModule):
            for node in part.graph.nodes:
                if _takes_default(node):
                    dtype: torch.dtype = node.meta["val"].dtype
                    return dtype.to_real() if dtype.is_complex else dtype
    return torch.get_default_dtype()


def is_promoted(target: str, operands: list[torch.dtype], result: torch.dtype) -> bool:
    """Whether integers became floating point, or complex, in the default dtype."""
    return (
        target in _PROMOTING
        and bool(operands)
        and _is_inexact(result)
        and not any(map(_is_inexact, operands))
    )


def _takes_default(node: fx.Node) -> bool:
    value = node.meta.get("val")
    if not isinstance(node.target, torch._ops.OpOverload):
        return False
    if not isinstance(value, torch.Tensor) or not _is_inexact(value.dtype):
        return False
    operands = [n.meta["val"].dtype for n in node.all_input_nodes if _is_tensor(n.meta.get("val"))]
    if not operands:
        arguments = {a.name for a in node.target._schema.arguments}
        return "dtype" in arguments and node.kwargs.get("dtype") is None
    target = str(node.target)
    if target in _CHOOSING:
        return not any(map(_is_inexact, operands))
    return is_promoted(target, operands, value.dtype)


def _is_inexact(dtype: torch.dtype) -> bool:
    return dtype.is_floating_point or dtype.is_complex


def _is_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor)

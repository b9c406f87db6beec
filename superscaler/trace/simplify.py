"""Peephole rules of the importer: operators that do nothing, and one form for those that do alike.

The graph is functional, so copies, detached aliases and memory layouts mean nothing. A rule gets
the drafted call and returns the tensor that stands for its result, or None to keep the call.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import torch

from superscaler.trace.draft import Draft, OperatorDraft, Value


@dataclass(frozen=True)
class Call:
    """A call about to be drafted: its operator, arguments, and the result's shape and dtype."""

    target: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    shape: tuple[int, ...]
    dtype: torch.dtype
    details: dict[str, Any]

    def emit(self, draft: Draft, target: str, *args: Any, **kwargs: Any) -> int:
        """Draft another operator in this one's place."""
        (result,) = draft.call(target, args, kwargs, [(self.shape, self.dtype)], **self.details)
        return result


Rule = Callable[[Draft, Call], int | None]


def simplify(draft: Draft, call: Call) -> int | None:
    """The tensor that stands for the call's result, if a rule applies."""
    rule = RULES.get(call.target)
    return rule(draft, call) if rule else None


def _source(call: Call) -> int:
    source: int = call.args[0].id
    return source


def _is_same(draft: Draft, call: Call) -> bool:
    source = draft.tensors[_source(call)]
    return source.shape == call.shape and source.dtype == call.dtype


def _drop(draft: Draft, call: Call) -> int | None:
    return _source(call)


def _drop_if_same(draft: Draft, call: Call) -> int | None:
    return _source(call) if _is_same(draft, call) else None


def _view(draft: Draft, call: Call) -> int | None:
    """view(view(x)) = view(x); a view to x's own shape is x; sum(keepdim) + view = sum."""
    source = _source(call)
    filled = _as_full(draft, call, source)
    if filled is not None:
        return filled
    while (producer := draft.producer(source)) and producer.target == "aten.view.default":
        source = producer.inputs[0]
    if draft.tensors[source].shape == call.shape:
        return source
    if producer and producer.target == "aten.sum.dim_IntList":
        narrow = _sum_without_keepdim(draft, call, producer)
        if narrow is not None:
            return narrow
    return call.emit(draft, "aten.view.default", Value(source), list(call.shape))


def _as_full(draft: Draft, call: Call, source: int) -> int | None:
    """A view, an expansion or a copy of a `full` is a `full`."""
    producer = draft.producer(source)
    if producer is None or producer.target != "aten.full.default":
        return None
    number = producer.args[1]
    if isinstance(number, float) and not call.dtype.is_floating_point:
        return None
    if draft.tensors[source].shape == call.shape and draft.tensors[source].dtype == call.dtype:
        return source
    return call.emit(draft, "aten.full.default", list(call.shape), number, dtype=call.dtype)


def _sum_without_keepdim(draft: Draft, call: Call, producer: OperatorDraft) -> int | None:
    (summed,) = producer.inputs
    dims = producer.args[1]
    shape = draft.tensors[summed].shape
    if len(producer.args) < 3 or not producer.args[2] or not dims:
        return None
    kept = tuple(n for d, n in enumerate(shape) if d not in {d % len(shape) for d in dims})
    if kept != call.shape:
        return None
    keywords = dict(producer.kwargs)
    return call.emit(draft, "aten.sum.dim_IntList", Value(summed), list(dims), **keywords)


def _permute(draft: Draft, call: Call) -> int | None:
    """Permutations compose; what is left is a `t`, a `transpose` of two dims or a `permute`."""
    order = _order(call.target, call.args, len(call.shape))
    source = _source(call)
    producer = draft.producer(source)
    if producer and producer.target in _PERMUTES:
        inner = _order(producer.target, producer.args, len(call.shape))
        order = [inner[d] for d in order]
        source = producer.inputs[0]
    moved = [d for d, o in enumerate(order) if d != o]
    if not moved:
        return source
    if all(n == 1 for n in _crossed(draft.tensors[source].shape, order)):
        return call.emit(draft, "aten.view.default", Value(source), list(call.shape))
    if len(order) == 2:
        return call.emit(draft, "aten.t.default", Value(source))
    if len(moved) == 2:
        return call.emit(draft, "aten.transpose.int", Value(source), *moved)
    return call.emit(draft, "aten.permute.default", Value(source), order)


def _crossed(shape: tuple[int, ...], order: list[int]) -> list[int]:
    """Sizes that decide whether a permutation moves data: 1 for each if it moves none."""
    large = [o for o in order if shape[o] != 1]
    return [1] if large == sorted(large) else [2]


def _order(target: str, args: tuple[Any, ...], num_dims: int) -> list[int]:
    order = list(range(num_dims))
    if target == "aten.permute.default":
        return [d % num_dims for d in args[1]]
    a, b = (0, num_dims - 1) if target == "aten.t.default" else args[1:3]
    if num_dims:
        order[a], order[b] = order[b], order[a]
    return order


def _expand(draft: Draft, call: Call) -> int | None:
    source = _source(call)
    if prod(draft.tensors[source].shape) == prod(call.shape):
        return _view(draft, call)
    filled = _as_full(draft, call, source)
    if filled is not None:
        return filled
    return call.emit(draft, "aten.expand.default", Value(source), list(call.shape))


def _select(draft: Draft, call: Call) -> int | None:
    return _view(draft, call) if _keeps_all(draft, call) else None


def _slice(draft: Draft, call: Call) -> int | None:
    return _drop_if_same(draft, call)


def _sum(draft: Draft, call: Call) -> int | None:
    """A sum over dims of size 1 is a view."""
    if _keeps_all(draft, call) and draft.tensors[_source(call)].dtype == call.dtype:
        return _view(draft, call)
    return None


def _keeps_all(draft: Draft, call: Call) -> bool:
    return prod(draft.tensors[_source(call)].shape) == prod(call.shape)


def _to_copy(draft: Draft, call: Call) -> int | None:
    if _is_same(draft, call):
        return _source(call)
    filled = _as_full(draft, call, _source(call))
    if filled is not None:
        return filled
    return call.emit(draft, "aten._to_copy.default", call.args[0], dtype=call.dtype)


def _copy(draft: Draft, call: Call) -> int | None:
    """copy(self, source) is the source, in self's shape and dtype."""
    source: int = call.args[1].id
    filled = _as_full(draft, call, source)
    if filled is not None:
        return filled
    if draft.tensors[source].dtype != call.dtype:
        shape = draft.tensors[source].shape
        (source,) = draft.call(
            "aten._to_copy.default",
            (Value(source),),
            {"dtype": call.dtype},
            [(shape, call.dtype)],
            **call.details,
        )
    if draft.tensors[source].shape != call.shape:
        return call.emit(draft, "aten.expand.default", Value(source), list(call.shape))
    return source


def _fill(draft: Draft, call: Call) -> int | None:
    """fill(self, number) is the number, in self's shape and dtype."""
    if not isinstance(call.args[1], Value):
        return call.emit(
            draft, "aten.full.default", list(call.shape), call.args[1], dtype=call.dtype
        )
    return _copy(draft, call)


def _cat(draft: Draft, call: Call) -> int | None:
    """Empty 1-D tensors, which torch lets be concatenated with any, are left out."""
    given: list[Value] = call.args[0]
    parts = [part for part in given if draft.tensors[part.id].shape != (0,)] or given[:1]
    if len(parts) == 1 and draft.tensors[parts[0].id].dtype == call.dtype:
        return parts[0].id
    if len(parts) == len(given):
        return None
    return call.emit(draft, "aten.cat.default", parts, *call.args[1:])


def _conjugate(draft: Draft, call: Call) -> int | None:
    """A conjugate that is computed, where torch's own is a flag on the same memory: no message
    between ranks carries the flag."""
    (number,) = call.args
    if not isinstance(number, Value):
        return call.emit(draft, "aten.full.default", [], number.conjugate(), dtype=call.dtype)
    return call.emit(draft, "aten._conj_physical.default", number)


def _negative(draft: Draft, call: Call) -> int | None:
    """Likewise a negative, such as the imaginary part of a conjugate."""
    return call.emit(draft, "aten.neg.default", *call.args)


def _with_tensor_overload(draft: Draft, call: Call) -> int | None:
    """mul.Scalar(x, 2) is mul.Tensor(x, 2), as most callers have it."""
    target = call.target.replace(".Scalar", ".Tensor")
    return call.emit(draft, target, *call.args, **call.kwargs)


def _as_strided(draft: Draft, call: Call) -> int | None:
    """Strides are those of the tensor laid out in order of its dims."""
    source = draft.tensors[_source(call)]
    (ordered,) = draft.call(
        "aten.clone.default",
        (call.args[0],),
        {"memory_format": torch.contiguous_format},
        [(source.shape, source.dtype)],
        **call.details,
    )
    return call.emit(draft, call.target, Value(ordered), *call.args[1:], **call.kwargs)


def _filled(position: int | None, value: Any = 0) -> Rule:
    """A factory of one number, wherever it takes it from, is a `full`."""

    def rule(draft: Draft, call: Call) -> int | None:
        number = value
        if position is not None:
            number = call.args[position] if position < len(call.args) else call.kwargs["fill_value"]
        if isinstance(number, Value):
            return None
        return call.emit(draft, "aten.full.default", list(call.shape), number, dtype=call.dtype)

    return rule


def _arange(draft: Draft, call: Call) -> int | None:
    start, end, step = {1: (0, *call.args, 1), 2: (*call.args, 1), 3: call.args}[len(call.args)]
    return call.emit(draft, "aten.arange.start_step", start, end, step, dtype=call.dtype)


_PERMUTES = ("aten.t.default", "aten.transpose.int", "aten.permute.default")

RULES: dict[str, Rule] = {
    **dict.fromkeys(
        (
            "aten.clone.default",
            "aten.detach.default",
            "aten.alias.default",
            "aten.lift_fresh_copy.default",
            "aten.contiguous.default",
            "aten.resolve_conj.default",
            "aten.resolve_neg.default",
        ),
        _drop,
    ),
    **dict.fromkeys(
        (
            "aten.view.default",
            "aten._unsafe_view.default",
            "aten.reshape.default",
            "aten._reshape_alias.default",
            "aten.unsqueeze.default",
            "aten.squeeze.default",
            "aten.squeeze.dim",
            "aten.squeeze.dims",
        ),
        _view,
    ),
    **dict.fromkeys(_PERMUTES, _permute),
    "aten._conj.default": _conjugate,
    "aten._neg_view.default": _negative,
    "aten.expand.default": _expand,
    "aten.select.int": _select,
    "aten.select_backward.default": _select,
    "aten.slice.Tensor": _slice,
    "aten.slice_backward.default": _slice,
    "aten.sum.dim_IntList": _sum,
    "aten._to_copy.default": _to_copy,
    "aten.copy.default": _copy,
    "aten.fill.Tensor": _fill,
    "aten.fill.Scalar": _fill,
    "aten.cat.default": _cat,
    **dict.fromkeys(
        (f"aten.{op}.Scalar" for op in ("add", "sub", "mul", "div")), _with_tensor_overload
    ),
    "aten.as_strided.default": _as_strided,
    "aten.as_strided_scatter.default": _as_strided,
    "aten.full.default": _filled(1),
    "aten.full_like.default": _filled(1),
    "aten.new_full.default": _filled(2),
    "aten.scalar_tensor.default": _filled(0),
    **dict.fromkeys(
        (
            "aten.zeros.default",
            "aten.zeros_like.default",
            "aten.new_zeros.default",
            "aten.empty.memory_format",
            "aten.empty_like.default",
            "aten.new_empty.default",
        ),
        _filled(None, 0),
    ),
    **dict.fromkeys(
        ("aten.ones.default", "aten.ones_like.default", "aten.new_ones.default"), _filled(None, 1)
    ),
    **dict.fromkeys(
        ("aten.arange.default", "aten.arange.start", "aten.arange.start_step"), _arange
    ),
}

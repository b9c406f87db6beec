"""Kernels: what torch operators return on PyTorch's meta device, and take on a device.

Layers are alike, so most calls are of an operator and forms of arguments that were there before:
these are answered from memory, without running the operator's meta function again.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

import superscaler.runtime.kernels  # noqa: F401  (makes the operators known)
from superscaler.cluster.operators import OperatorWork
from superscaler.dtypes import dtype_name
from superscaler.simulate.recording.record import Kernel
from superscaler.simulate.recording.work import is_view, tensors, view_work, work_of


@dataclass(frozen=True, slots=True)
class _Made:
    """An output: of the memory of argument `shares`, which it is itself if `is_same`; -1: new."""

    shares: int
    is_same: bool
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    dtype: torch.dtype


@dataclass(frozen=True, slots=True)
class _Call:
    made: Any  # _Made or None, in the nested lists that the operator returns
    took: Kernel | None


@dataclass
class Kernels:
    """Calls of operators on one kind of device; `duration_us` says how long a kernel takes."""

    is_cuda: bool
    duration_us: Callable[[OperatorWork], float]
    _known: dict[Hashable, _Call | None] = field(default_factory=dict)

    def call(self, func: Any, args: Any, kwargs: Any) -> tuple[Any, Kernel | None]:
        """What the operator returns, and the kernel that it is, of no line yet; None: a view, on a
        GPU."""
        given = list(tensors((args, kwargs)))
        # an optimizer counts its steps in real numbers; forms do not tell lazy signs
        if not all(t.is_meta for t in given) or any(map(_is_lazy, given)):
            return self._run(func, args, kwargs)
        key = (func, _form(args), _form(kwargs))
        known = self._known.get(key)
        if known is not None:
            return _remade(known.made, given), known.took
        result, took = self._run(func, args, kwargs)
        if key not in self._known:
            is_changed = (func, _form(args), _form(kwargs)) != key  # arguments, in place
            made = _OTHER if is_changed else _described(result, given)
            self._known[key] = None if made is _OTHER else _Call(made, took)
        return result, took

    def _run(self, func: Any, args: Any, kwargs: Any) -> tuple[Any, Kernel | None]:
        result = _AS_KERNELS_LAY_OUT.get(func, func)(*args, **kwargs)
        return result, self._took(func, args, kwargs, result)

    def _took(self, func: Any, args: Any, kwargs: Any, result: Any) -> Kernel | None:
        work = work_of(func, args, kwargs, result)
        if work is None and (self.is_cuda or not is_view(func)):
            return None  # a GPU does not hear of views
        found = work or view_work(func)
        outputs = list(tensors(result))
        size = sum(t.numel() * t.dtype.itemsize for t in outputs) if work else 0
        shapes = ", ".join(f"{dtype_name(t.dtype)}{list(t.shape)}" for t in outputs[:4])
        return Kernel(-1, found.target, self.duration_us(found), shapes, size, found.flops)


_OTHER = object()  # a result that cannot be made again from its form


def _is_lazy(tensor: torch.Tensor) -> bool:
    """Whether it stands for the conjugate, or the negative, of what its memory has."""
    return tensor.is_conj() or tensor.is_neg()


def _form(value: Any) -> Hashable:
    """Equal for arguments of which an operator makes the same: tensors by their form."""
    if isinstance(value, torch.Tensor):
        return (value.shape, value.stride(), value.storage_offset(), value.dtype)
    if isinstance(value, (list, tuple)):
        return (type(value), *map(_form, value))
    if isinstance(value, dict):
        return tuple((k, _form(v)) for k, v in value.items())
    return (type(value), value)


def _described(result: Any, given: Sequence[torch.Tensor]) -> Any:
    if result is None:
        return None
    if isinstance(result, torch.Tensor):
        return _described_tensor(result, given)
    if not isinstance(result, (list, tuple)):
        return _OTHER
    found = [_described(item, given) for item in result]
    fresh = [t.untyped_storage()._cdata for t, m in zip(result, found) if _is_new(m)]
    if any(m is _OTHER for m in found) or len(set(fresh)) < len(fresh):
        return _OTHER
    return type(result)(found)


def _is_new(made: Any) -> bool:
    return isinstance(made, _Made) and made.shares < 0


def _described_tensor(result: torch.Tensor, given: Sequence[torch.Tensor]) -> Any:
    if not result.is_meta or _is_lazy(result):
        return _OTHER
    storage = result.untyped_storage()
    form = (tuple(result.shape), result.stride(), int(result.storage_offset()), result.dtype)
    sharing = [i for i, t in enumerate(given) if t.untyped_storage()._cdata == storage._cdata]
    if len(sharing) > 1:
        return _OTHER  # where these do not share memory it may be of either
    if sharing:
        tensor = given[sharing[0]]
        is_known = tensor.dtype == result.dtype
        return _Made(sharing[0], tensor is result, *form) if is_known else _OTHER
    made = _Made(-1, False, *form)
    return made if _new(made).untyped_storage().nbytes() == storage.nbytes() else _OTHER


def _remade(made: Any, given: Sequence[torch.Tensor]) -> Any:
    if made is None:
        return None
    if not isinstance(made, _Made):
        return type(made)(_remade(m, given) for m in made)
    if made.shares < 0:
        return _new(made)
    base = given[made.shares]
    return base if made.is_same else base.as_strided(made.shape, made.stride, made.offset)


def _new(made: _Made) -> torch.Tensor:
    return torch.empty_strided(made.shape, made.stride, dtype=made.dtype, device="meta")


# Shapes are those of the operators' own fakes; here it matters, too, how the fused kernels lay out
# what they return: (batch, positions, heads, d) in memory.


def _by_positions(x: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    if len(shape) != 4:
        return x.new_empty(tuple(shape))
    b, h, s, d = shape
    return x.new_empty((b, s, h, d)).transpose(1, 2)


def _attention(q: Any, k: Any, v: Any, *rest: Any) -> Any:
    out, logsumexp = torch.ops.superscaler.attention(q, k, v, *rest)
    return _by_positions(q, out.shape), logsumexp


def _attention_backward(grad: Any, q: Any, k: Any, v: Any, *rest: Any) -> Any:
    del grad, rest
    return tuple(_by_positions(x, x.shape) for x in (q, k, v))


_AS_KERNELS_LAY_OUT: dict[Any, Callable[..., Any]] = {
    torch.ops.superscaler.attention.default: _attention,
    torch.ops.superscaler.attention_backward.default: _attention_backward,
}

"""Work: what a kernel has to do, from the tensors of its call."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import torch

from superscaler.cluster.operators import OperatorWork
from superscaler.dtypes import dtype_name
from superscaler.ops.flops import flops
from superscaler.simulate.recording.record import Form

NO_WORK = ("empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided")


def work_of(func: Any, args: Any, kwargs: Any, result: Any) -> OperatorWork | None:
    """The work of one call of a torch operator; None for views, which do none.

    Products compute in the dtype of what they multiply, whatever they add up in.
    """
    name = func.name().partition("::")[2].partition(".")[0]
    if name in NO_WORK or is_view(func):
        return None
    inputs = list(tensors((args, kwargs)))
    outputs = list(tensors(result))
    shapes = tuple(tuple(t.shape) for t in inputs)
    moved = sum(t.numel() * t.dtype.itemsize for t in (*inputs, *outputs))
    count = flops(name, shapes, [tuple(t.shape) for t in outputs])
    made = (inputs if count else outputs)[:1]
    dtype = made[0].dtype if made else torch.float32
    return OperatorWork(str(func), dtype_name(dtype), count, float(moved), shapes)


def addition_work(form: Form) -> OperatorWork:
    """Of adding a tensor to one of its form."""
    shape, size = form.shape, prod(form.shape) * form.dtype.itemsize
    return OperatorWork("aten.add.Tensor", dtype_name(form.dtype), 0.0, 3.0 * size, (shape, shape))


def view_work(func: Any) -> OperatorWork:
    """What a view is to a CPU: a call."""
    return OperatorWork(str(func), "", 0.0, 0.0)


def is_view(func: Any) -> bool:
    """Whether an operator only returns views of what it is given."""
    returns = func._schema.returns
    aliases = [r.alias_info for r in returns]
    return bool(aliases) and all(a is not None and not a.is_write for a in aliases)


def tensors(value: Any) -> Iterator[torch.Tensor]:
    """The tensors in nested lists and dicts."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors(item)
    elif isinstance(value, dict):
        yield from tensors(list(value.values()))

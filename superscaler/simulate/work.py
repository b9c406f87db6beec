"""Work: what a kernel has to do, from the tensors of its call."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import Any

import torch

from superscaler.cluster.operators import OperatorWork
from superscaler.simulate.record import Form

Shape = tuple[int, ...]

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
    return OperatorWork(str(func), str(dtype)[6:], count, float(moved), shapes)


def addition_work(form: Form) -> OperatorWork:
    """Of adding a tensor to one of its form."""
    shape, size = form.shape, prod(form.shape) * form.dtype.itemsize
    return OperatorWork("aten.add.Tensor", str(form.dtype)[6:], 0.0, 3.0 * size, (shape, shape))


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


def flops(name: str, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> float:
    """Twice the multiplications of a product operator; 0 for others."""
    count = _COUNTS.get(name)
    return float(count(inputs, outputs)) if count is not None else 0.0


def _product(inputs: Sequence[Shape], outputs: Sequence[Shape]) -> float:
    return 2 * prod(inputs[0]) * inputs[1][-1]


def _biased_product(inputs: Sequence[Shape], outputs: Sequence[Shape]) -> float:
    return _product(inputs[1:], outputs)


def _attention(inputs: Sequence[Shape], outputs: Sequence[Shape]) -> float:
    """Scores and their product with the values; a causal kernel skips half at best, not counted."""
    q, k, v = inputs[:3]
    return 2 * prod(q[:-1]) * k[-2] * (q[-1] + v[-1])


def _attention_backward(inputs: Sequence[Shape], outputs: Sequence[Shape]) -> float:
    """Five products where the forward has two: scores again, and four gradients."""
    return 2.5 * _attention(inputs[1:], outputs)


def _convolution(inputs: Sequence[Shape], outputs: Sequence[Shape]) -> float:
    return 2 * prod(outputs[0]) * prod(inputs[1][1:])


def _convolution_backward(inputs: Sequence[Shape], outputs: Sequence[Shape]) -> float:
    """For the gradients of the input and of the weight; `inputs` are gradient, input, weight."""
    return 4 * prod(inputs[0]) * prod(inputs[2][1:])


def _grouped(inputs: Sequence[Shape], outputs: Sequence[Shape]) -> float:
    """Every row (or contracted element) belongs to one group."""
    return 2 * prod(inputs[0]) * inputs[1][-1]


_COUNTS: dict[str, Callable[[Sequence[Shape], Sequence[Shape]], float]] = {
    "mm": _product,
    "bmm": _product,
    "addmm": _biased_product,
    "baddbmm": _biased_product,
    "convolution": _convolution,
    "convolution_backward": _convolution_backward,
    "attention": _attention,
    "attention_block": _attention,
    "attention_backward": _attention_backward,
    "attention_backward_mask": _attention_backward,
    "grouped_mm": _grouped,
    "grouped_mm_part": _grouped,
}

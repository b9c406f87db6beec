"""What a capture would not see, refused: gradient hooks, gradients that the step takes itself,
parameters that it freezes for a while, and draws of Python's own generators.

Reads private attributes of torch; tried with 2.11, 2.13 and 2.14.
"""

from __future__ import annotations

import contextlib
import random
import sys
import traceback
from collections.abc import Iterator
from typing import Any, NoReturn
from unittest.mock import patch

import torch
from torch import nn

from superscaler.errors import TraceError
from superscaler.trace.source import line_of
from superscaler.user_code import is_user_file

CALLS_BACKWARD = (
    "the step calls backward; let it return the loss and nothing more: of several losses the sum, "
    "of chunks of the batch the mean (or the whole batch at once: `microbatches` of a plan "
    "accumulates gradients)"
)
_WAY_OUT = (
    "hooks on gradients are not part of a compiled step; write what it does as a "
    "torch.autograd.Function, or leave it out"
)


def refuse_gradient_hooks(model: nn.Module) -> None:
    """Raises TraceError if a module or a parameter has a hook that runs in the backward."""
    for name, parameter in model.named_parameters():
        if parameter._backward_hooks or getattr(parameter, "_post_accumulate_grad_hooks", None):
            raise TraceError(f"parameter {name} has a gradient hook; {_WAY_OUT}")
    for name, module in model.named_modules():
        if module._backward_hooks or module._backward_pre_hooks:
            raise TraceError(f"module {name or 'the model'} has a backward hook; {_WAY_OUT}")


@contextlib.contextmanager
def unseen_refused() -> Iterator[None]:
    """Inside, hooks on gradients, gradients that are taken, and parameters that are frozen, or let
    be trained, raise TraceError. So do, afterwards, numbers that `random` or numpy drew, which
    would be the same in every step."""
    before = _generators()
    with (
        patch.object(torch.Tensor, "register_hook", _refuse_hook),
        patch.object(torch.autograd, "_engine_run_backward", _refuse_gradients),
        patch.object(torch.Tensor, "requires_grad", _RequiresGrad()),
        patch.object(torch.Tensor, "requires_grad_", _require_grad),
    ):
        yield
    for name, state in _generators().items():
        if before.get(name, state) != state:
            raise TraceError(
                f"the step draws from {name}, whose numbers would be the same in every step; draw "
                "with torch (torch.rand, F.dropout, torch.randperm), or draw into the batch"
            )


def _refuse_hook(tensor: torch.Tensor, hook: Any) -> NoReturn:
    raise TraceError(f"the step calls register_hook on a tensor; {_WAY_OUT}")


class _RequiresGrad:
    """`Tensor.requires_grad`, which a step does not change of a parameter."""

    def __get__(self, tensor: torch.Tensor | None, kind: Any = None) -> Any:
        return self if tensor is None else _REQUIRES_GRAD.__get__(tensor, kind)

    def __set__(self, tensor: torch.Tensor, value: bool) -> None:
        if isinstance(tensor, nn.Parameter) and bool(value) != tensor.requires_grad:
            what = "lets a parameter be trained" if value else "freezes a parameter"
            raise TraceError(
                f"{line_of(traceback.extract_stack())}: the step {what} (requires_grad), which the "
                "capture cannot follow; decide that before the step, and where gradients must not "
                "reach parameters use torch.no_grad, or torch.func.functional_call with "
                "{name: p.detach() for name, p in module.named_parameters()}"
            )
        _REQUIRES_GRAD.__set__(tensor, value)


_REQUIRES_GRAD: Any = torch.Tensor.requires_grad


def _require_grad(tensor: torch.Tensor, requires_grad: bool = True) -> torch.Tensor:
    tensor.requires_grad = requires_grad
    return tensor


def _refuse_gradients(*_: Any, **__: Any) -> NoReturn:
    stack = traceback.extract_stack()
    line = line_of(stack)
    if any(
        frame.name in ("backward", "_backward") and not is_user_file(frame.filename)
        for frame in stack[-4:]
    ):
        raise TraceError(f"{line}: {CALLS_BACKWARD}")
    raise TraceError(
        f"{line}: the step takes gradients itself (torch.autograd.grad or torch.func), which the "
        "capture cannot follow; leave the term with them out, or write the gradient as forward "
        "operators (of a linear layer with respect to its input, the product with its weight)"
    )


def _generators() -> dict[str, Any]:
    """The states of the global generators that are not torch's."""
    states: dict[str, Any] = {"Python's random": random.getstate()}
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        name, keys, *rest = numpy.random.get_state()
        states["numpy.random"] = (name, keys.tobytes(), *rest)
    return states

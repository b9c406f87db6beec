"""A stand-in for the user's model: the same modules around parameters without memory."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from superscaler.errors import TraceError
from superscaler.model_copy import copy_model


def fake_copy(model: nn.Module, mode: FakeTensorMode) -> nn.Module:
    """A deep copy of `model` whose parameters and buffers are fake CPU tensors.

    Tied parameters stay tied. The copy keeps whatever the traced step assigns to modules away from
    the user's model, which is only read.

    Raises TraceError when the model holds something that cannot be copied, or a tensor on the meta
    device that is neither parameter nor buffer.
    """
    memo: dict[int, Any] = {}
    for _, parameter in model.named_parameters():
        fake = nn.Parameter(fake_like(parameter, mode), requires_grad=parameter.requires_grad)
        memo[id(parameter)] = fake
    for _, buffer in model.named_buffers():
        memo[id(buffer)] = fake_like(buffer, mode)
    _refuse_meta_attributes(model, memo)
    try:
        return copy_model(model, memo)
    except (TypeError, RuntimeError, copy.Error) as error:
        raise TraceError(
            f"the model cannot be copied for tracing ({error}); keep locks, files, process groups "
            "and tensors with a gradient history out of its attributes"
        ) from error


def fake_like(tensor: torch.Tensor, mode: FakeTensorMode) -> torch.Tensor:
    """A fake, contiguous CPU tensor of the same shape and dtype."""
    if tensor.is_sparse or tensor.is_quantized:
        raise TraceError(
            f"a {tensor.layout} tensor of shape {tuple(tensor.shape)} is not supported"
        )
    with mode:
        return torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")


def _refuse_meta_attributes(model: nn.Module, memo: dict[int, Any]) -> None:
    """A tensor that is no parameter and no buffer is a constant, which needs its value."""
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            is_constant = isinstance(value, torch.Tensor) and id(value) not in memo
            if is_constant and value.is_meta:
                full = f"{path}.{name}" if path else name
                raise TraceError(
                    f"tensor {full} is on the meta device and is neither parameter nor buffer; "
                    "use register_buffer for it"
                )

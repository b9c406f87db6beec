"""Small constant tensors of the model's code, made by operators that carry their numbers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from superscaler.errors import TraceError

_MAX_NUMBERS = 256


@dataclass(frozen=True)
class Constant:
    """The numbers of a constant, row by row."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    numbers: tuple[float, ...]

    def build(self) -> Tensor:
        """The tensor, as a `full`, or as a concatenation of some."""
        if len(set(self.numbers)) == 1:
            return torch.full(self.shape, self.numbers[0], dtype=self.dtype)
        if not self.numbers:
            return torch.zeros(self.shape, dtype=self.dtype)
        parts = [torch.full([1], number, dtype=self.dtype) for number in self.numbers]
        return torch.cat(parts).view(self.shape)


def read_constant(tensor: Tensor, line: str) -> Constant:
    """Raises TraceError, which begins with `line`, if the constant is large, of many different
    numbers."""
    numbers = tuple(tensor.detach().reshape(-1).tolist()) if tensor.numel() else ()
    if len(numbers) > _MAX_NUMBERS and len(set(numbers)) > 1:
        raise TraceError(
            f"{line}the step reads a constant tensor of shape {tuple(tensor.shape)}; make it a "
            "buffer of the model: register_buffer(name, tensor, persistent=False); where it is of "
            "another module (a frozen teacher), put that module into the model, and let the step "
            "use it from there"
        )
    return Constant(tuple(tensor.shape), tensor.dtype, numbers)

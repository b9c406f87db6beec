"""Bare data: `x.data` of a step, which torch.export does not follow.

Patches an attribute of `torch.Tensor`; tried with 2.11, 2.13 and 2.14.
"""

from __future__ import annotations

import traceback
from contextlib import AbstractContextManager
from typing import Any, NoReturn
from unittest.mock import patch

import torch

from superscaler.errors import TraceError
from superscaler.trace.source import line_of


class _Detached:
    """`Tensor.data`, read as what `detach()` returns, and never set."""

    def __get__(self, tensor: torch.Tensor | None, kind: Any = None) -> Any:
        return self if tensor is None else tensor.detach()

    def __set__(self, tensor: torch.Tensor, value: torch.Tensor) -> NoReturn:
        raise TraceError(
            f"{line_of(traceback.extract_stack())}: the step sets the data of a tensor, which the "
            "capture cannot follow; use the new tensor in its place, write into a buffer with "
            "copy_, or change parameters after the step"
        )


def data_detached() -> AbstractContextManager[Any]:
    """Inside, `x.data` is `x.detach()`, and setting it raises TraceError."""
    return patch.object(torch.Tensor, "data", _Detached())

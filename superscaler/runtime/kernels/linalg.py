"""The check of what kernels of linear algebra report: a matrix that is singular, say."""

from __future__ import annotations

import torch
from torch import Tensor

from superscaler.runtime.kernels.library import define


def checked(x: Tensor, info: Tensor, name: str, is_matrix: bool) -> Tensor:
    """A result of `name`, if `info`, a number for each matrix, says that it is one.

    Raises torch.linalg.LinAlgError, as plain PyTorch does.
    """
    torch.ops.aten._linalg_check_errors(info, name, is_matrix=is_matrix)
    return x.clone()


def _fake(x: Tensor, info: Tensor, name: str, is_matrix: bool) -> Tensor:
    return torch.empty_like(x)


define("checked(Tensor x, Tensor info, str name, bool is_matrix) -> Tensor", checked, _fake)

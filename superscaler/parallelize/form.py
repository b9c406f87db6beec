"""The form of a batch: what a program is compiled for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._pytree import tree_flatten

from superscaler.dtypes import dtype_name
from superscaler.runtime.structure import structure


@dataclass(frozen=True)
class Form:
    """Batches of equal form are trained by one program: `leaves` are shapes with dtypes, and values
    of what is no tensor."""

    structure: str
    leaves: tuple[str, ...]

    def __str__(self) -> str:
        return ", ".join(self.leaves)


def batch_form(batch: Any) -> Form:
    """The form of a batch.

    >>> str(batch_form({"x": torch.zeros(2, 3), "scale": 0.5}))
    'float32[2, 3], 0.5'
    """
    leaves, spec = tree_flatten(batch)
    return Form(structure(spec), tuple(_leaf(leaf) for leaf in leaves))


def _leaf(leaf: Any) -> str:
    if isinstance(leaf, torch.Tensor):
        return f"{dtype_name(leaf.dtype)}{list(leaf.shape)}"
    return repr(leaf)

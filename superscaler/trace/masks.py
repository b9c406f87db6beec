"""Attention masks of `nn.Transformer`, which are applied as they are given.

Patches a private function of torch; tried with 2.11, 2.13 and 2.14.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

from torch.nn.modules import transformer


def masks_as_given() -> AbstractContextManager[Any]:
    """Inside, encoder and decoder do not look whether the values of a mask are those of a causal
    one: that only chooses a kernel, and values are not known while a step is traced."""
    return patch.object(transformer, "_detect_is_causal_mask", _is_causal)


def _is_causal(mask: Any, is_causal: bool | None = None, size: int | None = None) -> bool:
    return is_causal is True

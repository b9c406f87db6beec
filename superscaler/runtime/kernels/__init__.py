"""Our own torch operators, `torch.ops.superscaler.*`: importing this package registers them."""

from superscaler.runtime.kernels import (
    attention,
    attention_block,
    dropout,
    grouped,
    host,
    indexing,
    linalg,
    lookup,
)
from superscaler.runtime.kernels.random import set_random

__all__ = [
    "attention",
    "attention_block",
    "dropout",
    "grouped",
    "host",
    "indexing",
    "linalg",
    "lookup",
    "set_random",
]

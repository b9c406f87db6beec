"""Copies between device memory and host memory, as operators.

Where device and host are one memory (CPU ranks) a copy is a real one into memory of its own, which
`runtime.storages` counts as the host's. On a GPU `runtime.copies` does the copying.
"""

from __future__ import annotations

import torch
from torch import Tensor

from superscaler.runtime.kernels.library import define


def duplicate(x: Tensor) -> Tensor:
    """The same values in memory of their own, laid out alike."""
    return x.clone()


define("to_host(Tensor x) -> Tensor", duplicate, torch.empty_like)
define("to_device(Tensor x) -> Tensor", duplicate, torch.empty_like)

TO_HOST = torch.ops.superscaler.to_host.default
TO_DEVICE = torch.ops.superscaler.to_device.default

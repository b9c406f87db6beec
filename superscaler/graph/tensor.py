"""PTensor: a logical tensor of the training step, whole, before any split."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from math import prod

import torch

DEVICE, HOST = "device", "host"


class TensorKind(Enum):
    """Where a logical tensor comes from; everything but VALUE exists before the step starts."""

    PARAM = "param"
    BUFFER = "buffer"
    INPUT = "input"  # a leaf of the batch
    STATE = "state"  # an optimizer state tensor
    VALUE = "value"  # produced by an operator


@dataclass(frozen=True, slots=True)
class PTensor:
    """A logical tensor: `shape` is global; `name` is unique in its graph, says where it is from.

    `memory` is where it rests, or waits: DEVICE or HOST; copies lead from one to the other.
    """

    id: int
    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    kind: TensorKind
    memory: str = DEVICE

    @property
    def num_elements(self) -> int:
        return prod(self.shape)

    @property
    def num_bytes(self) -> int:
        return self.num_elements * self.dtype.itemsize

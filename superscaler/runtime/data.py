"""From a global batch to the parts of it that a rank reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.utils._pytree import tree_flatten

from superscaler.runtime.failures import BatchError
from superscaler.runtime.program import Key, Placed
from superscaler.runtime.shards import take
from superscaler.runtime.structure import structure


class BatchPlacer:
    """Cuts this rank's parts out of global batches; only these parts are copied to the device, or
    wait in host memory where the plan wants that."""

    def __init__(
        self, batch: Mapping[str, Any], inputs: Sequence[Placed], device: torch.device
    ) -> None:
        self._leaves = [_Leaf(leaf) for leaf in batch["leaves"]]
        self._structure: str | None = batch.get("structure")
        self._inputs = inputs
        self._device = device

    def place(self, batch: Any) -> dict[Key, torch.Tensor]:
        """This rank's inputs.

        Raises BatchError when the batch has not the structure, the shapes and the dtypes of the
        batch that was traced.
        """
        leaves = self._flatten(batch)
        return {
            placed.key: self._moved(take(leaves[placed.name], placed.slots, placed.box), placed)
            for placed in self._inputs
        }

    def in_host(self, batch: Any) -> list[torch.Tensor]:
        """The leaves of which a part waits in host memory."""
        leaves = self._flatten(batch)
        return [leaves[placed.name] for placed in self._inputs if placed.memory == "host"]

    def _moved(self, part: torch.Tensor, placed: Placed) -> torch.Tensor:
        """The part where it rests: in memory that the device can copy from while it works."""
        if placed.memory != "host":
            return part.to(self._device, non_blocking=True)
        return part.pin_memory() if self._device.type == "cuda" and not part.is_cuda else part

    def _flatten(self, batch: Any) -> list[Any]:
        leaves, spec = tree_flatten(batch)
        if self._structure is not None and structure(spec) != self._structure:
            raise BatchError(
                f"the batch is {structure(spec)}, the program was compiled for {self._structure}; "
                "give batches of the structure that was traced"
            )
        if len(leaves) != len(self._leaves):
            raise BatchError(
                f"the batch has {len(leaves)} tensors, the program was compiled for "
                f"{len(self._leaves)}: {', '.join(leaf.name for leaf in self._leaves)}"
            )
        for expected, leaf in zip(self._leaves, leaves, strict=True):
            expected.check(leaf)
        return leaves


class _Leaf:
    """What the manifest says of one leaf of the batch."""

    def __init__(self, leaf: Mapping[str, Any]) -> None:
        self.name = str(leaf.get("name", "a leaf that the step does not read"))
        self._shape = None if leaf.get("shape") is None else torch.Size(leaf["shape"])
        self._dtype = None if leaf.get("dtype") is None else as_dtype(leaf["dtype"])
        self._constant: str | None = leaf.get("constant")

    def check(self, leaf: Any) -> None:
        if self._constant is not None and repr(leaf) != self._constant:
            raise BatchError(
                f"batch: {self.name} is {leaf!r}, the program was compiled for {self._constant}, "
                "which is a constant of it; give what changes as a tensor, or trace and compile "
                "with such a batch"
            )
        if self._shape is None:  # no tensor, or one that the step does not read
            return
        if not isinstance(leaf, torch.Tensor):
            raise BatchError(f"batch: {self.name} is a {type(leaf).__name__}, expected a tensor")
        if leaf.shape != self._shape:
            raise BatchError(
                f"batch: {self.name} has shape {list(leaf.shape)}, the program was compiled for "
                f"{list(self._shape)}; give global batches of that shape (drop a last smaller "
                "batch), or trace and compile with such a batch"
            )
        if leaf.dtype != self._dtype:
            raise BatchError(
                f"batch: {self.name} has dtype {leaf.dtype}, the program was compiled for "
                f"{self._dtype}; convert the batch, or trace and compile with such a batch"
            )


def as_dtype(name: str) -> torch.dtype:
    """The dtype of a name such as `float32` or `torch.float32`.

    >>> as_dtype("torch.int64")
    torch.int64
    """
    dtype = getattr(torch, name.removeprefix("torch."), None)
    if not isinstance(dtype, torch.dtype):
        raise BatchError(f"{name!r} names no torch dtype")
    return dtype

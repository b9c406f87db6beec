"""StorageTracker: sees the memory behind tensors come and go while it is active."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from superscaler.runtime.kernels.host import TO_HOST


class StorageTracker(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Tells of every storage once when it is first seen, and once when it is gone.

    A view shares its base's storage, so it is nothing new; a storage is gone when the last tensor
    on it is. What a kernel allocates and frees inside is not seen.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._known: dict[int, weakref.ref[Any]] = {}

    def came(self, number: int, num_bytes: int) -> None:
        """A storage is there, by a number that no other has as long as it lives."""

    def came_to_host(self, number: int, num_bytes: int) -> None:
        """A storage is there in host memory."""
        self.came(number, num_bytes)

    def went(self, number: int) -> None:
        """It is gone. On other threads than this one, too, when these were the last to use it."""

    def see(self, value: Any, in_host: bool = False) -> None:
        """Take note of tensors that were made without this tracker; nested lists are followed."""
        for tensor in _tensors(value):
            storage = tensor.untyped_storage()
            number = storage._cdata
            known = self._known.get(number)
            if known is None or known() is not storage:
                self._known[number] = weakref.ref(storage, partial(self._end, number))
                (self.came_to_host if in_host else self.came)(number, storage.nbytes())

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        self.see(result, func is TO_HOST)
        return result

    def _end(self, number: int, ref: Any) -> None:
        if self._known.get(number) is ref:
            del self._known[number]
        self.went(number)


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)

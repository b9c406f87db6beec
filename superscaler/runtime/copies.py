"""Copies: tensors from device memory to host memory and back, beside the computation."""

from __future__ import annotations

import torch

from superscaler.runtime.kernels.host import TO_DEVICE, TO_HOST
from superscaler.runtime.pending import Pending


class Copies:
    """Those of a CPU rank: real copies, done when the call returns, into memory that counts as the
    host's. `CudaCopies` are those of a GPU."""

    def to_host(self, x: torch.Tensor, into: torch.Tensor | None = None) -> torch.Tensor | Pending:
        """x in host memory: in new memory, or in that of `into`."""
        if into is not None:
            return into.copy_(x)
        copied: torch.Tensor = TO_HOST(x)
        return copied

    def to_device(self, x: torch.Tensor) -> torch.Tensor | Pending:
        """A tensor in host memory, in new memory of the device."""
        copied: torch.Tensor = TO_DEVICE(x)
        return copied


class CudaCopies(Copies):
    """Copies on two streams of their own, one each way, from and to pinned memory.

    A copy starts when what was computed before it is done. Waiting makes the stream that computes
    wait, not the host; until then the source is kept, so that its memory is not used again.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._out = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._in = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def to_host(self, x: torch.Tensor, into: torch.Tensor | None = None) -> Pending:
        if into is None:
            into = torch.empty_like(x, device="cpu", pin_memory=True)
        return self._copy(x, into, self._out)

    def to_device(self, x: torch.Tensor) -> Pending:
        return self._copy(x, torch.empty_like(x, device=self._device), self._in)

    def _copy(
        self, source: torch.Tensor, target: torch.Tensor, stream: torch.cuda.Stream
    ) -> Pending:
        stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(stream):
            target.copy_(source, non_blocking=True)
            done = stream.record_event()
        kept = [source]

        def finish() -> torch.Tensor:
            torch.cuda.current_stream(self._device).wait_event(done)
            kept.clear()
            return target

        return Pending(finish)


def copies_of(device: torch.device) -> Copies:
    """The copies of a rank on this device."""
    return CudaCopies(device) if device.type == "cuda" else Copies()

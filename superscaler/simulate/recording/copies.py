"""RecordingCopies: copies between memories, noted, with the memory that the real ones take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from superscaler.runtime.copies import Copies
from superscaler.runtime.kernels.host import TO_HOST
from superscaler.runtime.pending import Pending
from superscaler.simulate.recording.communicator import RecordingCommunicator


class RecordingCopies(Copies):
    """Those of a GPU, beside the computation; those of a CPU rank are kernels as any other.

    `quietly` runs what is no kernel.
    """

    def __init__(
        self, communicator: RecordingCommunicator, quietly: Callable[[Callable[[], Any]], Any]
    ) -> None:
        self._communicator = communicator
        self._quietly = quietly

    def to_host(self, x: torch.Tensor, into: torch.Tensor | None = None) -> Pending:
        host = into if into is not None else self._quietly(lambda: TO_HOST(x))
        return self._communicator.copy("copy_out", x, host)

    def to_device(self, x: torch.Tensor) -> Pending:
        return self._communicator.copy("copy_in", x, torch.empty_like(x))

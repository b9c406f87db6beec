"""Timer: how long each kernel took that ran, by its work."""

from __future__ import annotations

import statistics

from torch.utils._python_dispatch import TorchDispatchMode

from superscaler.cluster.operators import OperatorWork
from superscaler.cluster.profile import OperatorTime


class Timer(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Keeps times in microseconds; subclasses say when a kernel is timed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.times: dict[OperatorWork, list[float]] = {}

    def operators(self) -> tuple[OperatorTime, ...]:
        """The median time of every kernel so far."""
        return tuple(
            OperatorTime(work, round(statistics.median(times), 3))
            for work, times in sorted(self.times.items(), key=lambda item: str(item[0]))
        )

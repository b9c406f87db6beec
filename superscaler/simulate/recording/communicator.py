"""RecordingCommunicator: communication that is noted, with the buffers that the real one takes.

What it allocates and keeps is what `runtime.processes` does on Gloo and on NCCL; the tests compare
both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

from superscaler.runtime.communicator import (
    Communicator,
    Ranks,
    Receives,
    Sends,
    reduce_into,
    reduce_parts,
)
from superscaler.runtime.pending import Pending
from superscaler.runtime.processes import LARGE_BYTES, ascending, in_order_of
from superscaler.simulate.recording.constants import Peer
from superscaler.simulate.recording.record import (
    ITSELF,
    Communication,
    EndSends,
    Message,
    Post,
    Step,
    Wait,
)


class RecordingCommunicator(Communicator):
    """One rank's; `note` is told of every step.

    `sent` is what is kept for sends: until `finish_sends` on Gloo, which does not say that a send
    is over unless one waits for it, and until the next transfer on NCCL.
    """

    def __init__(self, rank: int, is_nccl: bool, note: Callable[[Step], None]) -> None:
        self.rank = rank
        self.world_size = -1
        self.line = 0
        self.found: list[Communication] = []
        self.sent: list[torch.Tensor] = []
        self._is_nccl = is_nccl
        self._note = note

    def all_reduce(self, buffer: torch.Tensor, ranks: Ranks, op: str) -> Pending:
        return self._collective("all_reduce", buffer.nbytes, ranks, buffer)

    def all_gather(self, part: torch.Tensor, ranks: Ranks) -> Pending:
        gathered = part.new_empty((len(ranks), *part.shape))
        direct = not self._is_nccl and part.nbytes >= LARGE_BYTES
        if direct:
            gathered[ranks.index(self.rank)].copy_(part)
            self.sent.append(part)
        pending = self._collective("all_gather", gathered.nbytes, ranks, gathered, part)
        return pending if direct else pending.then(lambda rows: in_order_of(ranks, rows))

    def reduce_scatter(self, parts: torch.Tensor, ranks: Ranks, op: str) -> Pending:
        if self._is_nccl:
            reduced = torch.empty_like(parts[0])
            parts = ascending(ranks, parts)
            return self._collective("reduce_scatter", parts.nbytes, ranks, reduced, parts)
        if parts[0].nbytes >= LARGE_BYTES:
            return self._reduce_directly(parts, ranks, op)
        came = self._exchange("reduce_scatter", parts, ranks)
        return came.then(lambda rows: reduce_parts(list(rows), op))

    def all_to_all(self, parts: torch.Tensor, ranks: Ranks) -> Pending:
        return self._exchange("all_to_all", parts, ranks)

    def broadcast(self, buffer: torch.Tensor, ranks: Ranks, root: int) -> Pending:
        return self._collective("broadcast", buffer.nbytes, ranks, buffer)

    def transfer(self, sends: Sends, receives: Receives) -> Pending:
        if self._is_nccl:
            self._end_sends()
        self.sent += [x for x, _ in sends]
        buffers = [buffer for buffer, _ in receives]
        if not sends and not buffers:
            return Pending(lambda: buffers)
        messages = [tuple(_message(x, peer) for x, peer in side) for side in (sends, receives)]
        size = sum(m.num_bytes for side in messages for m in side)
        found = Communication("move", size, "", self.line, messages[0], messages[1])
        return self._start(found, buffers, None)

    def finish_sends(self) -> None:
        self._end_sends()

    def copy(self, kind: str, source: torch.Tensor, target: torch.Tensor) -> Pending:
        """A copy between device and host memory."""
        return self._start(Communication(kind, source.nbytes, ITSELF, self.line), target, source)

    def close(self) -> None:
        """Nothing to give back."""

    def _end_sends(self) -> None:
        self.sent.clear()
        self._note(EndSends())

    def _exchange(self, kind: str, parts: torch.Tensor, ranks: Ranks) -> Pending:
        came, parts = torch.empty_like(parts), ascending(ranks, parts)
        pending = self._collective(kind, parts.nbytes, ranks, came, parts)
        return pending.then(lambda rows: in_order_of(ranks, rows))

    def _reduce_directly(self, parts: torch.Tensor, ranks: Ranks, op: str) -> Pending:
        place = ranks.index(self.rank)
        buffers = [torch.empty_like(parts[0]) for i in range(len(ranks)) if i != place]
        pending = self._collective("reduce_scatter", parts.nbytes, ranks, buffers, parts)

        def finish() -> torch.Tensor:
            came = pending.wait()
            return reduce_into([*came[:place], parts[place], *came[place:]], came[0], op)

        return Pending(finish)

    def _collective(
        self, kind: str, num_bytes: int, ranks: Iterable[int], result: Any, read: Any = None
    ) -> Pending:
        constant: str = getattr(ranks, "constant", "")
        return self._start(Communication(kind, num_bytes, constant, self.line), result, read)

    def _start(self, communication: Communication, result: Any, read: Any) -> Pending:
        """Note the start; until its end the buffers that it reads are kept."""
        number = len(self.found)
        self.found.append(communication)
        self._note(Post(number))

        def finish() -> Any:
            nonlocal read
            self._note(Wait(number))
            read = None
            return result

        return Pending(finish)


def _message(x: torch.Tensor, peer: int) -> Message:
    assert isinstance(peer, Peer), peer
    return Message(x.nbytes, peer.constant, peer.index)

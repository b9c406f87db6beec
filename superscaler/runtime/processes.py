"""The communicator of ranks that are processes: torch.distributed with NCCL or Gloo."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from superscaler.runtime.communicator import (
    Communicator,
    Ranks,
    Receives,
    Sends,
    reduce_into,
    reduce_parts,
)
from superscaler.runtime.failures import CommunicationError
from superscaler.runtime.pending import Pending

# From here on messages straight into the result are faster than Gloo's collectives, which copy it
# once or twice more (all-gather of 16 MiB: 37 against 59 ms on 2 ranks, 241 against 351 ms on 4
# ranks; CPU time of 256 KiB and 1.6 MB on 2 ranks: 0.20 against 0.25 and 0.81 against 1.06 ms; a
# 2-core machine, torch 2.13).
LARGE_BYTES = 256 << 10
# torch 2.13 renamed them.
_ALL_GATHER = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
_REDUCE_SCATTER = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor
_OPS = {"sum": dist.ReduceOp.SUM, "max": dist.ReduceOp.MAX}


class ProcessCommunicator(Communicator):
    """Communication over the default process group, and one more group per set of ranks.

    `groups` are the sets of ranks that call collectives, in one order on all ranks; each rank
    makes only its own, so that making them does not grow with the world.
    """

    def __init__(self, groups: Iterable[Sequence[int]] = (), timeout: float = 1800.0) -> None:
        self.rank = dist.get_rank()
        self.world_size = dist.get_world_size()
        self._is_nccl = dist.get_backend() == "nccl"
        self._groups: dict[Ranks, Any] = {tuple(range(self.world_size)): dist.group.WORLD}
        self._add_groups([tuple(group) for group in groups], timedelta(seconds=timeout))
        self._sends: deque[tuple[Any, torch.Tensor]] = deque()
        self._num_sent: dict[int, int] = {}
        self._num_received: dict[int, int] = {}

    def all_reduce(self, buffer: torch.Tensor, ranks: Ranks, op: str) -> Pending:
        work = dist.all_reduce(real_view(buffer), _OPS[op], self._group(ranks), async_op=True)
        return _after(work, buffer)

    def all_gather(self, part: torch.Tensor, ranks: Ranks) -> Pending:
        gathered = part.new_empty((len(ranks), *part.shape))
        if not self._is_nccl and part.nbytes >= LARGE_BYTES:
            return self._gather_directly(gathered, part, ranks)
        group = self._group(ranks)
        work = _ALL_GATHER(_flat(gathered), _flat(part), group, async_op=True)
        return _after(work, gathered).then(lambda rows: in_order_of(ranks, rows))

    def reduce_scatter(self, parts: torch.Tensor, ranks: Ranks, op: str) -> Pending:
        if self._is_nccl:
            reduced = torch.empty_like(parts[0])
            group, parts = self._group(ranks), ascending(ranks, parts)
            flat = (_flat(reduced), _flat(parts))
            work = _REDUCE_SCATTER(*flat, _OPS[op], group, async_op=True)
            return _after(work, reduced, parts)
        if parts[0].nbytes >= LARGE_BYTES:
            return self._reduce_directly(parts, ranks, op)
        # Gloo's own takes twice as long (4 MiB, 2 ranks: 4.5 against 2.0 ms, torch 2.13).
        came = self.all_to_all(parts, ranks)
        return came.then(lambda rows: reduce_parts(list(rows), op))

    def all_to_all(self, parts: torch.Tensor, ranks: Ranks) -> Pending:
        came, parts = torch.empty_like(parts), ascending(ranks, parts)
        views = (real_view(came), real_view(parts))
        work = dist.all_to_all_single(*views, group=self._group(ranks), async_op=True)
        return _after(work, came, parts).then(lambda rows: in_order_of(ranks, rows))

    def broadcast(self, buffer: torch.Tensor, ranks: Ranks, root: int) -> Pending:
        work = dist.broadcast(real_view(buffer), root, self._group(ranks), async_op=True)
        return _after(work, buffer)

    def transfer(self, sends: Sends, receives: Receives) -> Pending:
        """Send and receive; on Gloo a message's number is its tag, NCCL matches by order."""
        self._forget_finished_sends()
        buffers = [buffer for buffer, _ in receives]
        if self._is_nccl:
            works = self._transfer_together(sends, receives)
        else:
            works = self._receive(receives)
            sent = zip(self._send(sends), (x for x, _ in sends), strict=True)
            self._sends.extend(sent)
        return Pending(lambda: _wait_all(works, buffers))

    def finish_sends(self) -> None:
        while self._sends:
            self._sends.popleft()[0].wait()

    def close(self) -> None:
        """Wait for what was sent, and let go of the groups."""
        self.finish_sends()
        self._groups.clear()

    def _add_groups(self, groups: Iterable[Ranks], timeout: timedelta) -> None:
        """Make this rank's groups.

        A group's members find each other under a name that has the number of groups each of them
        made before (`_hash_ranks_to_str` of torch 2.13). A member that has made fewer than the
        others makes up for it with groups of its own.
        """
        num_made = [0] * self.world_size
        world = tuple(range(self.world_size))
        for ranks in dict.fromkeys(tuple(sorted(group)) for group in groups):
            if len(ranks) == 1 or ranks == world:
                continue
            number = max(num_made[rank] for rank in ranks)
            if self.rank in ranks:
                for _ in range(number - num_made[self.rank]):
                    self._new_group((self.rank,), timeout)
                self._groups[ranks] = self._new_group(ranks, timeout)
            for rank in ranks:
                num_made[rank] = number + 1

    def _new_group(self, ranks: Ranks, timeout: timedelta) -> Any:
        return dist.new_group(list(ranks), timeout=timeout, use_local_synchronization=True)

    def _group(self, ranks: Ranks) -> Any:
        group = self._groups.get(tuple(sorted(ranks)))
        if group is None:
            raise CommunicationError(
                f"rank {self.rank}: no process group of ranks {list(ranks)} was made; the "
                "manifest's groups do not list it, compile the program again"
            )
        return group

    def _gather_directly(self, gathered: torch.Tensor, part: torch.Tensor, ranks: Ranks) -> Pending:
        """Point to point, straight into the result, where Gloo's own copies the result twice."""
        others = [i for i, rank in enumerate(ranks) if rank != self.rank]
        gathered[ranks.index(self.rank)].copy_(part)
        sends = [(part, ranks[i]) for i in others]
        arrival = self.transfer(sends, [(gathered[i], ranks[i]) for i in others])
        return arrival.then(lambda _: gathered)

    def _reduce_directly(self, parts: torch.Tensor, ranks: Ranks, op: str) -> Pending:
        """Point to point, this rank's own part where it is, reduced in the order of the ranks.

        It is done when the sends are, so that the parts are freed at once: Gloo does not say that
        a send has finished unless one waits for it.
        """
        place = ranks.index(self.rank)
        others = [i for i in range(len(ranks)) if i != place]
        buffers = [torch.empty_like(parts[0]) for _ in others]
        works = self._receive([(x, ranks[i]) for x, i in zip(buffers, others, strict=True)])
        works += self._send([(parts[i], ranks[i]) for i in others])

        def finish() -> torch.Tensor:
            came = _wait_all(works, buffers)
            return reduce_into([*came[:place], parts[place], *came[place:]], came[0], op)

        return Pending(finish)

    def _receive(self, receives: Receives) -> list[Any]:
        return [
            dist.irecv(real_view(x), rank, tag=_next(self._num_received, rank))
            for x, rank in receives
        ]

    def _send(self, sends: Sends) -> list[Any]:
        return [
            dist.isend(real_view(x), rank, tag=_next(self._num_sent, rank)) for x, rank in sends
        ]

    def _transfer_together(self, sends: Sends, receives: Receives) -> list[Any]:
        """One NCCL group call: alone, two ranks that each send first would block each other."""
        ops = [dist.P2POp(dist.isend, real_view(x), to) for x, to in sends]
        ops += [dist.P2POp(dist.irecv, real_view(x), sender) for x, sender in receives]
        if not ops:
            return []
        works: list[Any] = dist.batch_isend_irecv(ops)
        self._sends.extend((work, x) for work in works for x, _ in sends)
        return works

    def _forget_finished_sends(self) -> None:
        while self._sends and self._sends[0][0].is_completed():
            self._sends.popleft()


def destroy_groups() -> None:
    """End the process groups of this process, once every communicator over them is closed.

    Gloo's threads end with the last reference to their group. One that still lets go of a tensor
    while the interpreter ends aborts the process (torch 2.13: "terminate called without an active
    exception").
    """
    dist.barrier()  # a peer that still sends to this rank would see a closed connection
    dist.destroy_process_group()


def real_view(x: torch.Tensor) -> torch.Tensor:
    """What a message carries of x: of complex numbers real and imaginary parts, in place.

    NCCL has no complex numbers, and torch takes apart those of some calls only (Gloo sends them).
    """
    return torch.view_as_real(x) if x.is_complex() else x


def _flat(x: torch.Tensor) -> torch.Tensor:
    return real_view(x).view(-1)


def ascending(ranks: Ranks, parts: torch.Tensor) -> torch.Tensor:
    """Parts in the order of `ranks` in that of a process group, which sorts its ranks."""
    order = sorted(range(len(ranks)), key=lambda i: ranks[i])
    return parts if order == list(range(len(ranks))) else parts[order]


def in_order_of(ranks: Ranks, rows: torch.Tensor) -> torch.Tensor:
    """The reverse: what came in the order of the process group, in the order of `ranks`."""
    place = {rank: i for i, rank in enumerate(sorted(ranks))}
    order = [place[rank] for rank in ranks]
    return rows if order == list(range(len(ranks))) else rows[order]


def _after(work: Any, result: torch.Tensor, read: torch.Tensor | None = None) -> Pending:
    """The result, once the work is done; until then the buffers that it reads are kept."""

    def finish() -> torch.Tensor:
        nonlocal read
        work.wait()
        read = None
        return result

    return Pending(finish)


def _wait_all(works: list[Any], buffers: list[torch.Tensor]) -> list[torch.Tensor]:
    for work in works:
        work.wait()
    return buffers


def _next(counts: dict[int, int], peer: int) -> int:
    number = counts.get(peer, 0)
    counts[peer] = (number + 1) % (1 << 30)
    return number

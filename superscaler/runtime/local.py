"""Ranks as threads of one process, and the communicator between them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch

from superscaler.dtypes import dtype_name
from superscaler.runtime.communicator import (
    Communicator,
    Ranks,
    Receives,
    Sends,
    reduce_parts,
)
from superscaler.runtime.failures import CommunicationError, PeerFailure
from superscaler.runtime.pending import Pending

T = TypeVar("T")
Combine = Callable[[list[torch.Tensor]], Sequence[torch.Tensor]]


def run_ranks_in_threads(
    world_size: int, function: Callable[[int, Communicator], T], timeout: float = 60.0
) -> list[T]:
    """Run `function(rank, communicator)` on a thread per rank and return all results.

    A rank that fails ends the others at their next communication, and its error is raised. Ranks
    that all wait for each other are found at once; one that waits longer than `timeout` seconds
    is reported with the call it waits in (CommunicationError).
    """
    world = _World(world_size, timeout)
    results: list[Any] = [None] * world_size
    threads = [
        threading.Thread(target=_run_rank, args=(world, rank, function, results), daemon=True)
        for rank in range(world_size)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    world.raise_failure()
    world.check_empty()
    return results


def lone_rank() -> Communicator:
    """The communicator of a program of one rank."""
    return LocalCommunicator(_World(1, 60.0), 0)


def _run_rank(
    world: _World, rank: int, function: Callable[[int, Communicator], T], results: list[Any]
) -> None:
    with _RankLife(world, rank):
        results[rank] = function(rank, LocalCommunicator(world, rank))


class _RankLife:
    """Tells the world when a rank ends, and why; its error is raised by the main thread."""

    def __init__(self, world: _World, rank: int) -> None:
        self._world, self._rank = world, rank

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> bool:
        self._world.leave(self._rank, error)
        return True


class _Meeting:
    """One collective: what the ranks that came brought, and what came out."""

    __slots__ = ("brought", "label", "ranks", "results")

    def __init__(self, ranks: Ranks, label: str) -> None:
        self.ranks = ranks
        self.label = label
        self.brought: dict[int, torch.Tensor] = {}
        self.results: Sequence[torch.Tensor] | None = None

    def is_ready(self) -> bool:
        return self.results is not None

    def describe(self) -> str:
        missing = [rank for rank in self.ranks if rank not in self.brought]
        return f"{self.label} over ranks {list(self.ranks)}: {_ranks(missing)} did not come"


class _Mail:
    """Message number `number` of an ordered pair of ranks."""

    __slots__ = ("box", "label", "number", "sender")

    def __init__(self, box: dict[int, torch.Tensor], number: int, sender: int, label: str) -> None:
        self.box, self.number, self.sender, self.label = box, number, sender, label

    def is_ready(self) -> bool:
        return self.number in self.box

    def describe(self) -> str:
        return f"receive of {self.label} from rank {self.sender}, which has not sent it"


class _World:
    """Where the ranks meet. One lock guards everything; each rank waits on its own condition."""

    def __init__(self, world_size: int, timeout: float) -> None:
        self.world_size = world_size
        self._timeout = timeout
        self._lock = threading.Lock()
        self._awake = [threading.Condition(self._lock) for _ in range(world_size)]
        self._meetings: dict[tuple[Ranks, int], _Meeting] = {}
        self._mail: dict[tuple[int, int], dict[int, torch.Tensor]] = {}
        self._waiting: dict[int, _Meeting | _Mail] = {}
        self._gone: set[int] = set()
        self._failures: list[tuple[int, BaseException]] = []  # by rank, first failure first

    def come(
        self, rank: int, ranks: Ranks, number: int, label: str, x: torch.Tensor, combine: Combine
    ) -> _Meeting:
        """Bring `x` to collective `number` of the group; the last to come computes the results."""
        key = (ranks, number)
        with self._lock:
            self._raise_if_over(rank)
            meeting = self._meetings.setdefault(key, _Meeting(ranks, label))
            if meeting.label != label:
                other = next(iter(meeting.brought))
                raise CommunicationError(
                    f"collective {number} of ranks {list(ranks)} differs: rank {other} calls "
                    f"{meeting.label}, rank {rank} calls {label}"
                )
            meeting.brought[rank] = x
            if len(meeting.brought) < len(ranks):
                return meeting
            del self._meetings[key]
        results = combine([meeting.brought[member] for member in ranks])
        with self._lock:
            meeting.results = results
            for member in ranks:
                self._awake[member].notify()
        return meeting

    def post(self, sender: int, to: int, number: int, x: torch.Tensor) -> None:
        """Put message `number` of the pair into the receiver's box."""
        with self._lock:
            self._raise_if_over(sender)
            self.mail_box(sender, to)[number] = x
            self._awake[to].notify()

    def mail_box(self, sender: int, to: int) -> dict[int, torch.Tensor]:
        return self._mail.setdefault((sender, to), {})

    def wait(self, rank: int, event: _Meeting | _Mail) -> None:
        """Block until the event is ready; raise when it cannot become so."""
        with self._lock:
            if event.is_ready():
                return
            self._waiting[rank] = event
            self._check_deadlock()
            self._raise_if_over(rank)
            in_time = self._awake[rank].wait_for(
                lambda: event.is_ready() or self._failures, self._timeout
            )
            del self._waiting[rank]
            if event.is_ready():
                return
            self._raise_if_over(rank)
            assert not in_time
            raise CommunicationError(
                f"rank {rank} waited {self._timeout:g} s in {event.describe()}"
            )

    def leave(self, rank: int, error: BaseException | None) -> None:
        """A rank has ended, with or without an error."""
        with self._lock:
            self._gone.add(rank)
            if error is not None and not isinstance(error, PeerFailure):
                self._fail(rank, error)
            self._check_deadlock()

    def raise_failure(self) -> None:
        """Raise the first failure, if there was one."""
        if self._failures:
            raise self._failures[0][1]

    def check_empty(self) -> None:
        """Raise CommunicationError if something was sent that nobody received."""
        for (sender, to), box in sorted(self._mail.items()):
            if box:
                raise CommunicationError(
                    f"rank {sender} sent rank {to} {len(box)} message(s) that were never received"
                )
        for meeting in self._meetings.values():
            raise CommunicationError(f"left over: {meeting.describe()}")

    def _fail(self, rank: int, error: BaseException) -> None:
        self._failures.append((rank, error))
        for condition in self._awake:
            condition.notify()

    def _raise_if_over(self, rank: int) -> None:
        if not self._failures:
            return
        failed, error = self._failures[0]
        if isinstance(error, _Deadlock):
            raise error
        raise PeerFailure(f"rank {rank} ended because rank {failed} failed: {error}")

    def _check_deadlock(self) -> None:
        over = len(self._waiting) + len(self._gone - self._waiting.keys()) == self.world_size
        if not over or not self._waiting or self._failures:
            return
        if any(event.is_ready() for event in self._waiting.values()):
            return
        lines = [f"rank {r} is in {e.describe()}" for r, e in sorted(self._waiting.items())]
        lines += [f"rank {r} has finished" for r in sorted(self._gone)]
        first = min(self._waiting)
        self._fail(first, _Deadlock("deadlock, no rank can go on:\n  " + "\n  ".join(lines)))


class _Deadlock(CommunicationError):
    """Every rank waits for another one."""


class LocalCommunicator(Communicator):
    """The communicator of ranks that are threads of this process."""

    def __init__(self, world: _World, rank: int) -> None:
        self.rank = rank
        self.world_size = world.world_size
        self._world = world
        self._num_collectives: dict[Ranks, int] = {}
        self._num_sent: dict[int, int] = {}
        self._num_received: dict[int, int] = {}

    def all_reduce(self, buffer: torch.Tensor, ranks: Ranks, op: str) -> Pending:
        def combine(buffers: list[torch.Tensor]) -> Sequence[torch.Tensor]:
            total = reduce_parts(buffers, op)
            return [total, *(total.clone() for _ in buffers[1:])]

        return self._meet(ranks, f"all_reduce {op}", buffer, combine)

    def all_gather(self, part: torch.Tensor, ranks: Ranks) -> Pending:
        def combine(parts: list[torch.Tensor]) -> Sequence[torch.Tensor]:
            return [torch.stack(parts) for _ in parts]

        return self._meet(ranks, "all_gather", part.clone(), combine)

    def reduce_scatter(self, parts: torch.Tensor, ranks: Ranks, op: str) -> Pending:
        def combine(brought: list[torch.Tensor]) -> Sequence[torch.Tensor]:
            columns = range(len(brought))
            return [reduce_parts([parts[i] for parts in brought], op) for i in columns]

        return self._meet(ranks, f"reduce_scatter {op}", parts.clone(), combine)

    def all_to_all(self, parts: torch.Tensor, ranks: Ranks) -> Pending:
        def combine(brought: list[torch.Tensor]) -> Sequence[torch.Tensor]:
            columns = range(len(brought))
            return [torch.stack([parts[i] for parts in brought]) for i in columns]

        return self._meet(ranks, "all_to_all", parts.clone(), combine)

    def broadcast(self, buffer: torch.Tensor, ranks: Ranks, root: int) -> Pending:
        def combine(buffers: list[torch.Tensor]) -> Sequence[torch.Tensor]:
            return [buffers[ranks.index(root)].clone() for _ in buffers]

        given = buffer.clone() if self.rank == root else buffer
        return self._meet(ranks, f"broadcast from rank {root}", given, combine)

    def transfer(self, sends: Sends, receives: Receives) -> Pending:
        for x, to in sends:
            number = self._num_sent.get(to, 0)
            self._num_sent[to] = number + 1
            self._world.post(self.rank, to, number, x.clone())
        expected = [(self._expect(buffer, sender), buffer) for buffer, sender in receives]
        return Pending(lambda: [self._receive(mail, buffer) for mail, buffer in expected])

    def finish_sends(self) -> None:
        """Nothing to wait for: messages are copies."""

    def close(self) -> None:
        """Nothing to give back."""

    def _meet(self, ranks: Ranks, call: str, x: torch.Tensor, combine: Combine) -> Pending:
        number = self._num_collectives.get(ranks, 0)
        self._num_collectives[ranks] = number + 1
        label = f"{call} of {_form(x)}"
        meeting = self._world.come(self.rank, ranks, number, label, x, combine)
        position = ranks.index(self.rank)

        def finish() -> torch.Tensor:
            self._world.wait(self.rank, meeting)
            assert meeting.results is not None
            return meeting.results[position]

        return Pending(finish)

    def _expect(self, buffer: torch.Tensor, sender: int) -> _Mail:
        number = self._num_received.get(sender, 0)
        self._num_received[sender] = number + 1
        with self._world._lock:
            box = self._world.mail_box(sender, self.rank)
        return _Mail(box, number, sender, f"message {number}, {_form(buffer)},")

    def _receive(self, mail: _Mail, buffer: torch.Tensor) -> torch.Tensor:
        self._world.wait(self.rank, mail)
        x = mail.box.pop(mail.number)
        if x.shape != buffer.shape or x.dtype != buffer.dtype:
            raise CommunicationError(
                f"message {mail.number} from rank {mail.sender} to rank {self.rank} is "
                f"{_form(x)}, expected was {_form(buffer)}"
            )
        return x


def _form(x: torch.Tensor) -> str:
    return f"{dtype_name(x.dtype)}{list(x.shape)}"


def _ranks(ranks: Sequence[int]) -> str:
    return ("rank " if len(ranks) == 1 else "ranks ") + ", ".join(map(str, ranks))

"""Communicator: how the ranks of a program exchange tensors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch

from superscaler.runtime.pending import Pending

Ranks = tuple[int, ...]
Sends = Sequence[tuple[torch.Tensor, int]]  # contiguous tensors and the ranks they go to
Receives = Sequence[tuple[torch.Tensor, int]]  # empty buffers and the ranks they come from

_REDUCE: dict[str, Callable[..., torch.Tensor]] = {"sum": torch.add, "max": torch.maximum}


class Communicator(ABC):
    """One rank's view of the world. All calls start something and return at once.

    The ranks of a group call the same collectives in the same order; sends and receives of an
    ordered pair of ranks match in order. Buffers are contiguous; a buffer that is passed in must
    not be written to before the Pending has been waited for (`finish_sends` for sends).
    """

    rank: int
    world_size: int

    @abstractmethod
    def all_reduce(self, buffer: torch.Tensor, ranks: Ranks, op: str) -> Pending:
        """The sum or max over the ranks, in `buffer` itself."""

    @abstractmethod
    def all_gather(self, part: torch.Tensor, ranks: Ranks) -> Pending:
        """The ranks' parts, stacked along a new first dim."""

    @abstractmethod
    def reduce_scatter(self, parts: torch.Tensor, ranks: Ranks, op: str) -> Pending:
        """`parts[i]` of all ranks, summed (or max) on rank number i of the group."""

    @abstractmethod
    def all_to_all(self, parts: torch.Tensor, ranks: Ranks) -> Pending:
        """`parts[i]` goes to rank number i; the result has what rank number i sent at [i]."""

    @abstractmethod
    def broadcast(self, buffer: torch.Tensor, ranks: Ranks, root: int) -> Pending:
        """The buffer of rank `root`, in `buffer` itself."""

    @abstractmethod
    def transfer(self, sends: Sends, receives: Receives) -> Pending:
        """Send and receive; the result is the list of filled receive buffers."""

    @abstractmethod
    def finish_sends(self) -> None:
        """Block until nothing that this rank sent is read any more."""

    @abstractmethod
    def close(self) -> None:
        """Give everything back; the communicator is of no use afterwards."""


def reduce_parts(parts: Sequence[torch.Tensor], op: str) -> torch.Tensor:
    """A new tensor: the sum or max of tensors, in order, so that every rank gets the same bits."""
    result = _REDUCE[op](parts[0], parts[1]) if len(parts) > 1 else parts[0].clone()
    for part in parts[2:]:
        _REDUCE[op](result, part, out=result)
    return result


def reduce_into(parts: Sequence[torch.Tensor], result: torch.Tensor, op: str) -> torch.Tensor:
    """`reduce_parts` of two or more tensors into `result`, one of the first two of them."""
    assert result is parts[0] or result is parts[1]
    _REDUCE[op](parts[0], parts[1], out=result)
    for part in parts[2:]:
        _REDUCE[op](result, part, out=result)
    return result

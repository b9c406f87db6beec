"""Context: the primitives that emitted code calls."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import torch

from superscaler.runtime.by_time import is_table, look_up
from superscaler.runtime.communicator import Communicator, Ranks
from superscaler.runtime.copies import Copies, copies_of
from superscaler.runtime.exchange import exchange
from superscaler.runtime.pending import Pending, resolve
from superscaler.runtime.shards import cut

Shape = tuple[int, ...]
Sharded = tuple[torch.Tensor, Shape, int, Shape]  # x, slots, dim, shape
Value = torch.Tensor | Pending


class Context:
    """What a rank's tasks see of the world.

    `slots` is a local tensor's shape as factored (one flat tuple), `dim` one of these factors,
    `shape` the local result's shape; `group`, `to`, `frm` and `spec` name constants. Communication
    starts at the call; its result is a Pending until `wait`.
    """

    wait = staticmethod(resolve)

    def __init__(
        self,
        constants: Mapping[str, Any],
        communicator: Communicator,
        device: torch.device | str = "cpu",
        optimizer_step: Callable[[Mapping[Any, torch.Tensor]], None] | None = None,
        copies: Copies | None = None,
    ) -> None:
        self.time: tuple[int, ...] = ()  # of the running task
        self.communicator = communicator
        self.device = torch.device(device)
        self._optimizer_step = optimizer_step
        self.copies = copies or copies_of(self.device)
        self._fixed = {name: v for name, v in constants.items() if not is_table(v)}
        self._timed = {name: v for name, v in constants.items() if is_table(v)}
        self._own_mail: deque[Value] = deque()

    def __getitem__(self, name: str) -> Any:
        """The constant, for the running task's time index."""
        if name in self._timed:
            return look_up(self._timed[name], self.time)
        return self._fixed[name]

    def all_reduce(
        self, x: torch.Tensor, group: str, op: str = "sum", in_place: bool = False
    ) -> Value:
        """The sum or max over the ranks; `in_place` may overwrite x, which nothing else reads."""
        ranks: Ranks = self[group]
        if len(ranks) == 1:
            return x
        return self.communicator.all_reduce(x.contiguous() if in_place else _copy(x), ranks, op)

    def all_gather(
        self, x: torch.Tensor, group: str, slots: Shape, dim: int, shape: Shape
    ) -> Value:
        """The ranks' tensors, concatenated along factor `dim`."""
        ranks: Ranks = self[group]
        if len(ranks) == 1:
            return x.reshape(shape)
        gathered = self.communicator.all_gather(x.reshape(slots).contiguous(), ranks)
        return gathered.then(lambda parts: parts.movedim(0, dim).reshape(shape))

    def reduce_scatter(
        self, x: torch.Tensor, group: str, slots: Shape, dim: int, shape: Shape, op: str = "sum"
    ) -> Value:
        """Part i of factor `dim`, reduced over the ranks, on rank i of the group."""
        ranks: Ranks = self[group]
        if len(ranks) == 1:
            return x.reshape(shape)
        parts = _cut(x, slots, dim, len(ranks)).contiguous()
        reduced = self.communicator.reduce_scatter(parts, ranks, op)
        return reduced.then(lambda part: part.reshape(shape))

    def all_to_all(
        self, x: torch.Tensor, group: str, slots: Shape, split: int, concat: int, shape: Shape
    ) -> Value:
        """Part i of factor `split` goes to rank i; what comes is joined along factor `concat`."""
        ranks: Ranks = self[group]
        if len(ranks) == 1:
            return x.reshape(shape)
        parts = _cut(x, slots, split, len(ranks)).contiguous()
        exchanged = self.communicator.all_to_all(parts, ranks)
        return exchanged.then(lambda came: came.movedim(0, concat).reshape(shape))

    def all_reduce_coalesced(
        self, tensors: Sequence[torch.Tensor], group: str, op: str = "sum"
    ) -> list[Value]:
        """`all_reduce` of several tensors (of one dtype) in one message."""
        ranks: Ranks = self[group]
        if len(ranks) == 1:
            return list(tensors)
        buffer = torch.cat([x.reshape(-1) for x in tensors])
        reduced = self.communicator.all_reduce(buffer, ranks, op)
        shapes = [x.shape for x in tensors]
        sizes = [x.numel() for x in tensors]

        def split(flat: torch.Tensor) -> list[torch.Tensor]:
            return _views(flat, sizes, shapes)

        return _items(reduced.then(split), len(tensors))

    def reduce_scatter_coalesced(
        self, items: Sequence[Sharded], group: str, op: str = "sum"
    ) -> list[Value]:
        """`reduce_scatter` of several (x, slots, dim, shape), of one dtype, in one message."""
        ranks: Ranks = self[group]
        num_ranks = len(ranks)
        if num_ranks == 1:
            return [x.reshape(shape) for x, _, _, shape in items]
        parts = [
            _cut(x, slots, dim, num_ranks).reshape(num_ranks, -1) for x, slots, dim, _ in items
        ]
        reduced = self.communicator.reduce_scatter(torch.cat(parts, dim=1), ranks, op)
        sizes = [part.shape[1] for part in parts]
        shapes = [shape for _, _, _, shape in items]

        def split(flat: torch.Tensor) -> list[torch.Tensor]:
            return _views(flat, sizes, shapes)

        return _items(reduced.then(split), len(items))

    def all_gather_coalesced(self, items: Sequence[Sharded], group: str) -> list[Value]:
        """`all_gather` of several (x, slots, dim, shape), of one dtype, in one message."""
        ranks: Ranks = self[group]
        if len(ranks) == 1:
            return [x.reshape(shape) for x, _, _, shape in items]
        buffer = torch.cat([x.reshape(-1) for x, _, _, _ in items])
        gathered = self.communicator.all_gather(buffer, ranks)
        layouts = [(x.numel(), slots, dim, shape) for x, slots, dim, shape in items]

        def split(rows: torch.Tensor) -> list[torch.Tensor]:
            columns = rows.split_with_sizes([size for size, _, _, _ in layouts], dim=1)
            return [
                part.reshape(len(ranks), *slots).movedim(0, dim).reshape(shape)
                for part, (_, slots, dim, shape) in zip(columns, layouts, strict=True)
            ]

        return _items(gathered.then(split), len(items))

    def broadcast(
        self, x: torch.Tensor | None, group: str, root: int, shape: Shape, dtype: torch.dtype
    ) -> Value:
        """The tensor of rank number `root` of the group; the others pass None."""
        ranks: Ranks = self[group]
        if len(ranks) == 1:
            assert x is not None
            return x
        if x is None:
            x = torch.empty(shape, dtype=dtype, device=self.device)
        return self.communicator.broadcast(x.contiguous(), ranks, ranks[root])

    def send(self, x: torch.Tensor, to: str) -> None:
        """Send x to one rank, which receives it."""
        rank: int = self[to]
        if rank == self.communicator.rank:
            self._own_mail.append(x)
        else:
            self.communicator.transfer([(x.contiguous(), rank)], ())

    def recv(self, frm: str, shape: Shape, dtype: torch.dtype) -> Value:
        """What one rank sends."""
        rank: int = self[frm]
        if rank == self.communicator.rank:
            return self._own_mail.popleft()
        buffer = torch.empty(shape, dtype=dtype, device=self.device)
        return self.communicator.transfer((), [(buffer, rank)]).then(_first)

    def send_coalesced(self, tensors: Sequence[torch.Tensor], to: str) -> None:
        """`send` of several tensors (of one dtype) in one message."""
        self.send(torch.cat([x.reshape(-1) for x in tensors]), to)

    def recv_coalesced(self, frm: str, shapes: Sequence[Shape], dtype: torch.dtype) -> list[Value]:
        """What one rank sends in one message, of these shapes."""
        sizes = [prod(shape) for shape in shapes]
        received = self.recv(frm, (sum(sizes),), dtype)

        def split(flat: torch.Tensor) -> list[torch.Tensor]:
            return _views(flat, sizes, shapes)

        if isinstance(received, torch.Tensor):
            return list(split(received))
        return _items(received.then(split), len(shapes))

    def exchange(
        self,
        parts: Mapping[tuple[int, ...], torch.Tensor],
        spec: str | Mapping[str, Any],
        shape: Shape,
        dtype: torch.dtype,
    ) -> Value | None:
        """The general path: boxes of this rank's parts go where `spec` says (see exchange.py)."""
        layout = self[spec] if isinstance(spec, str) else spec
        return exchange(self.communicator, parts, layout, shape, dtype, self.device)

    def chunk(
        self, x: torch.Tensor, slots: Shape, dim: int, index: int | str, count: int, shape: Shape
    ) -> torch.Tensor:
        """Part `index` of `count` equal parts of factor `dim`; no communication."""
        position: int = self[index] if isinstance(index, str) else index
        size = slots[dim] // count
        return x.reshape(slots).narrow(dim, position * size, size).reshape(shape)

    def take(
        self, x: torch.Tensor, slots: Shape, box: Sequence[tuple[int, int]] | str, shape: Shape
    ) -> torch.Tensor:
        """A box ((start, stop) per factor) of x; no communication."""
        intervals = self[box] if isinstance(box, str) else box
        return cut(x.reshape(slots), intervals).reshape(shape)

    def to_host(self, x: torch.Tensor) -> Value:
        """A copy of x in host memory."""
        return self.copies.to_host(x)

    def to_device(self, x: torch.Tensor) -> Value:
        """A copy, on the device, of x in host memory."""
        return self.copies.to_device(x)

    def optimizer_step(self, gradients: Mapping[Any, torch.Tensor]) -> None:
        """Update these parameters with the user's optimizer.

        The keys are values' names, or (name, time index) where a parameter has several parts.
        """
        assert self._optimizer_step is not None, "this context was made without an optimizer"
        self.communicator.finish_sends()  # they may read the parameters
        self._optimizer_step(
            {
                (key if isinstance(key, tuple) else (key, ())): resolve(gradient)
                for key, gradient in gradients.items()
            }
        )


def _copy(x: torch.Tensor) -> torch.Tensor:
    return x.clone(memory_format=torch.contiguous_format)


def _cut(x: torch.Tensor, slots: Shape, dim: int, count: int) -> torch.Tensor:
    """x with factor `dim` cut in `count` parts, which become a new first dim."""
    cut = (*slots[:dim], count, slots[dim] // count, *slots[dim + 1 :])
    return x.reshape(cut).movedim(dim, 0)


def _views(flat: torch.Tensor, sizes: list[int], shapes: Sequence[Shape]) -> list[torch.Tensor]:
    """The parts of a message. Pairs behind an odd number of elements are copied: complex numbers,
    which they may be read as, have to start at an even one."""
    return [
        (part.clone() if part.storage_offset() % 2 and shape[-1:] == (2,) else part).view(shape)
        for part, shape in zip(flat.split_with_sizes(sizes), map(tuple, shapes), strict=True)
    ]


def _items(pending: Pending, count: int) -> list[Value]:
    return [Pending(lambda i=i: pending.wait()[i]) for i in range(count)]  # type: ignore[misc]


def _first(received: list[torch.Tensor]) -> torch.Tensor:
    return received[0]

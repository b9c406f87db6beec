"""Record: what one call of an emitted function does, step by step, without doing it.

Storages are numbered: first those that the call is given, then those that it makes. A storage's
bytes count once, however many views it has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch

ITSELF = "itself"  # in place of a constant: a rank copies between its own memories


@dataclass(frozen=True, slots=True)
class Form:
    """A tensor that a function is given or gives: where its elements lie in which storage."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    offset: int
    storage: int
    storage_bytes: int


Given = Form | dict[tuple[int, ...], Form]  # what a parameter holds: a tensor, or parts by time


@dataclass(frozen=True, slots=True)
class Run:
    """A kernel, number `operator` of the record's, works for `us`."""

    us: float
    operator: int


@dataclass(frozen=True, slots=True)
class Take:
    """A storage is allocated."""

    storage: int
    num_bytes: int
    line: int
    in_host: bool = False


@dataclass(frozen=True, slots=True)
class Free:
    """The call no longer uses a storage: one of its own is freed, another is given back."""

    storage: int


@dataclass(frozen=True, slots=True)
class Post:
    """A communication of the record's starts."""

    number: int


@dataclass(frozen=True, slots=True)
class Wait:
    """The call goes on when a communication of the record's is over."""

    number: int


@dataclass(frozen=True, slots=True)
class EndSends:
    """What was sent before this call is no longer kept."""


Step = Run | Take | Free | Post | Wait | EndSends


@dataclass(frozen=True, slots=True)
class Message:
    """Bytes to or from one rank: constant `constant`, or entry `index` of its list."""

    num_bytes: int
    constant: str
    index: int = -1


@dataclass(frozen=True, slots=True)
class Communication:
    """A collective over the ranks of `constant`, or messages of one call.

    `num_bytes` is what `cluster.communication` takes for this kind; `line` is the function's.
    Copies between device and host memory are "copy_in" and "copy_out".
    """

    kind: str
    num_bytes: int
    constant: str
    line: int
    sends: tuple[Message, ...] = ()
    receives: tuple[Message, ...] = ()


@dataclass(frozen=True, slots=True)
class Kernel:
    """One kernel that a line runs; `duration_us` 0 for views."""

    line: int
    target: str
    duration_us: float
    shapes: str
    num_bytes: int
    flops: float


@dataclass(frozen=True, slots=True)
class Output:
    """What a call returns at one place: a tensor, or member `member` of an arrival.

    `form` of a member is the tensor's after the arrival.
    """

    form: Form
    arrival: int = -1


@dataclass(frozen=True, slots=True)
class Arrival:
    """Values that come by one communication and are waited for after the call.

    `holds` are the storages that are kept until then, `steps` what the first wait does.
    """

    holds: tuple[int, ...]
    steps: tuple[Step, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Record:
    """A call. `sent` are storages that are kept until its sends are known to be over."""

    steps: tuple[Step, ...]
    kernels: tuple[Kernel, ...]
    communications: tuple[Communication, ...]
    outputs: tuple[Output, ...]
    arrivals: tuple[Arrival, ...]
    sent: tuple[int, ...]
    num_given: int  # storages

    @property
    def duration_us(self) -> float:
        """Of the kernels alone."""
        return sum(k.duration_us for k in self.kernels)


def contiguous(shape: Sequence[int], dtype: torch.dtype, storage: int) -> Form:
    """The form of a dense tensor in a storage of its own."""
    stride = [prod(shape[i + 1 :]) for i in range(len(shape))]
    return Form(tuple(shape), tuple(stride), dtype, 0, storage, prod(shape) * dtype.itemsize)

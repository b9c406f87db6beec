"""Rule: the iteration axes of one operator, and how a part of it is called.

A rule gives every dim of every tensor operand as an ordered product (major to minor) of the
operator's own *iteration axes*, by name. Splitting an axis into intervals splits every operand
that has it. What splitting does to an output that lacks the axis is the axis's `reduce`: with
"sum" or "max" each part holds a partial value, with None every part holds the same value.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

Dims = tuple[tuple[str, ...], ...]  # per dim of one tensor: the names of its factors


@dataclass(frozen=True, slots=True)
class IterationAxis:
    """One iteration axis of an operator.

    `frozen` axes cannot be split. An `indexed` axis can, but the part's call needs to know where
    its interval starts (`Local.start`). A `strided` one may also be cut into single elements of its
    minor factor: every n-th element, `Local.stride` apart. `cost` > 0 makes it a later choice when
    one tensor axis plays several roles in an operator (keys of an attention, say); lower is
    preferred.
    """

    size: int
    reduce: str | None = None  # "sum" | "max": in outputs that lack the axis
    indexed: bool = False
    frozen: bool = False
    cost: int = 0
    strided: bool = False


class Local(Protocol):
    """What `Rule.local` may ask about one part of the operator.

    `input_shape(i)` / `output_shape(k)` are the part's local shapes; `size(axis)` is the length of
    the part's interval on an iteration axis, `start(axis)` where it starts: an opaque value that
    may only be put into the call as an argument (it differs from rank to rank), `stride(axis)` how
    far apart its elements are, `is_split(axis)` whether the operator is split on it at all.
    `index(k)` is an opaque value for output k: for each factor of each dim (start, local size,
    global size), as nested tuples ((global, start, local), ...) per dim; random operators number
    their elements with it.
    """

    def input_shape(self, i: int) -> tuple[int, ...]: ...
    def output_shape(self, k: int) -> tuple[int, ...]: ...
    def size(self, axis: str) -> int: ...
    def start(self, axis: str) -> Any: ...
    def stride(self, axis: str) -> int: ...
    def is_split(self, axis: str) -> bool: ...
    def index(self, k: int) -> Any: ...


@dataclass(frozen=True, slots=True)
class Call:
    """A concrete call: `args`/`kwargs` are templates with `Ref`s like an Operator's."""

    target: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


LocalFunction = Callable[[Call, Local], Call]


@dataclass(frozen=True)
class Rule:
    """The axes of one operator instance, for its concrete shapes and arguments.

    `inputs[i]` / `outputs[k]` are the Dims of tensor operand i / k; the product of the sizes of a
    dim's factors is the dim's size; a dim of size 1 has no factors. `linear` lists sets of input
    positions in which the operator is *jointly linear* (with the other inputs fixed): if exactly
    the inputs of such a set are partial sums, so are the outputs. `local` turns the global call
    into a part's call (sizes, offsets); None means the call is the same for every part.
    """

    inputs: tuple[Dims, ...]
    outputs: tuple[Dims, ...]
    axes: dict[str, IterationAxis]
    linear: tuple[frozenset[int], ...] = ()
    local: LocalFunction | None = None
    random: bool = False  # draws random numbers, by element index (never by part)
    is_view: bool = False  # costs nothing


@dataclass(frozen=True)
class Operands:
    """What a rule function sees: the operator's call and the global shapes of its tensors."""

    target: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(hash=False)
    inputs: tuple[tuple[int, ...], ...]  # shapes of the tensor inputs, by Ref position
    outputs: tuple[tuple[int, ...], ...]

    def shape(self, arg: Any) -> tuple[int, ...]:
        """The shape of a tensor argument given as its Ref."""
        return self.inputs[arg.position]


RuleFunction = Callable[[Operands], Rule]

"""Building a Rule dim by dim: axes by name, arguments by position, calls with new arguments."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from superscaler.graph.operator import Ref
from superscaler.graph.rule import Call, Dims, IterationAxis, Local, LocalFunction, Operands, Rule

Shape = tuple[int, ...]
LINEAR_IN_FIRST = (frozenset({0}),)


class RuleBuilder:
    """Collects the iteration axes of one rule; a dim of size 1 gets none."""

    def __init__(self) -> None:
        self.axes: dict[str, IterationAxis] = {}

    def axis(
        self,
        name: str,
        size: int,
        *,
        reduce: str | None = None,
        indexed: bool = False,
        frozen: bool = False,
        cost: int = 0,
        strided: bool = False,
    ) -> tuple[str, ...]:
        """A dim that is the axis `name`, made on first use."""
        if size == 1:
            return ()
        if name not in self.axes:
            self.axes[name] = IterationAxis(
                size, reduce, indexed, frozen or size == 0, cost, strided
            )
        return (name,)

    def dims(
        self, prefix: str, shape: Iterable[int], *, frozen: bool = False, reduce: str | None = None
    ) -> Dims:
        """One axis per dim, named by the prefix and the dim's number."""
        return tuple(
            self.axis(f"{prefix}{d}", n, frozen=frozen, reduce=reduce) for d, n in enumerate(shape)
        )

    def freeze(self, names: Iterable[str]) -> None:
        """Forbid splitting these axes."""
        for name in names:
            self.axes[name] = replace(self.axes[name], frozen=True)

    def rule(
        self,
        inputs: Iterable[Dims],
        outputs: Iterable[Dims],
        *,
        linear: tuple[frozenset[int], ...] = (),
        local: LocalFunction | None = None,
        random: bool = False,
        is_view: bool = False,
    ) -> Rule:
        """The rule with these operands."""
        return Rule(tuple(inputs), tuple(outputs), self.axes, linear, local, random, is_view)


def argument(op: Operands | Call, position: int, name: str, default: Any = None) -> Any:
    """An argument of the call, given by position or by name."""
    if len(op.args) > position:
        return op.args[position]
    return op.kwargs.get(name, default)


def with_args(call: Call, new: dict[int, Any], target: str | None = None) -> Call:
    """The call with other arguments at some positions, all of them given by position."""
    args = list(call.args)
    for position, value in new.items():
        args[position] = value
    return Call(target or call.target, tuple(args), call.kwargs)


def positions(*arguments: Any) -> tuple[frozenset[int], ...]:
    """A linear set of the arguments that are tensors, unless one of them is not."""
    if all(isinstance(a, Ref) for a in arguments):
        return (frozenset(a.position for a in arguments),)
    return ()


def each(*arguments: Any) -> tuple[frozenset[int], ...]:
    """Linear sets of one: in each of the arguments that are tensors, by itself."""
    return tuple(frozenset({a.position}) for a in arguments if isinstance(a, Ref))


def local_sizes(position: int) -> LocalFunction:
    """Sets the size argument at `position` to the part's shape of output 0."""

    def local(call: Call, part: Local) -> Call:
        return with_args(call, {position: list(part.output_shape(0))})

    return local


def any_split(part: Local, names: Iterable[str]) -> bool:
    """Whether the operator is split on one of these axes."""
    return any(part.is_split(name) for name in names)

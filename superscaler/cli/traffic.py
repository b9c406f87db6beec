"""What a compiled program sends: every conversion of layout, its ranks, its calls and its bytes."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from superscaler.materialize.conversion import Route, Time
from superscaler.materialize.general import exchanges
from superscaler.materialize.program import Conversion, Program

LOCAL = ("chunk",)


@dataclass(frozen=True)
class Traffic:
    """One conversion of a tensor from its producer's layout into a reader's.

    `num_bytes` is the size of what a rank hands to the first call, or of all boxes of the general
    path, each time; `num_times` how often it happens in a step.
    """

    tensor: str
    kinds: tuple[str, ...]
    sources: tuple[int, ...]
    targets: tuple[int, ...]
    num_bytes: int
    num_times: int

    @property
    def is_general(self) -> bool:
        return self.kinds == ("exchange",)


def traffic(program: Program) -> list[Traffic]:
    """Every conversion that communicates, in the program's order."""
    found = [_traffic(program, conversion) for conversion in program.conversions]
    return [entry for entry in found if set(entry.kinds) - set(LOCAL)]


def _traffic(program: Program, conversion: Conversion) -> Traffic:
    route = conversion.route
    tensor = program.partition.graph.tensors[conversion.tensor]
    keys = route.all_keys()
    if route.paths is None:
        kinds: tuple[str, ...] = ("exchange",)
        sent = [n for n in (_boxes(route, key) for key in keys) if n]
        elements, keys = sum(sent) // max(len(sent), 1), keys[: len(sent)]
    else:
        steps = route.paths[keys[0]].steps
        kinds = tuple(step.kind for step in steps)
        talks = [step for step in steps if step.kind not in LOCAL]
        elements = prod(talks[0].before) if talks else 0
    return Traffic(
        tensor=tensor.name,
        kinds=kinds,
        sources=_members(route, source=True),
        targets=_members(route, source=False),
        num_bytes=elements * tensor.dtype.itemsize,
        num_times=len(keys),
    )


def _members(route: Route, source: bool) -> tuple[int, ...]:
    grid = (route.source if source else route.target).grid
    return tuple(sorted(set(grid.devices.ravel().tolist())))


def _boxes(route: Route, key: Time) -> int:
    """Elements that the general path sends."""
    return sum(
        prod(stop - start for start, stop in box)
        for exchange in exchanges(route, key).values()
        for _, box, _ in exchange.send
    )

"""Split axes: which axes of a graph a split of a plan is on."""

from __future__ import annotations

from superscaler.errors import PlanError
from superscaler.graph.axis import Axes
from superscaler.graph.graph import Graph
from superscaler.plan import PlanSplit
from superscaler.transform.context import context_axes
from superscaler.transform.select import find_axes
from superscaler.transform.tensor_parallel import tensor_parallel_axes, token_axes


def axes_of(
    graph: Graph, axes: Axes, split: PlanSplit, parts: int, before: tuple[int, ...] = ()
) -> list[int]:
    """The axes that a split in `parts` is on, best first, each divisible; `before` are those of the
    dim's earlier splits. Raises PlanError for axes that do not exist or divide."""
    if split.axis == "auto":
        return _auto(graph, axes, split, parts)
    if split.axis == "sequence":
        return _sequence(graph, axes, split, parts, before)
    if split.axis == "context":
        return _context(graph, axes, split, parts)
    chosen = []
    for spot in find_axes(graph, axes, split.axis):
        spot = spot[::-1] if split.striped else spot
        fits = [a for a in spot if axes.axes[a].size % parts == 0]
        if not fits and split.uneven:
            fits = [a for a in spot if axes.axes[a].size >= parts]
        if not fits:
            sizes = " x ".join(str(axes.axes[a].size) for a in spot)
            raise PlanError(
                indivisible(
                    f"split {split.axis} on {split.dim} by {parts}",
                    axes.axes[spot[0]].name,
                    sizes,
                    axes.axes[spot[0]].size,
                    parts,
                )
                + taken_apart(graph, axes, spot[0])
            )
        chosen.append(fits[0])
    return list(dict.fromkeys(chosen))


def _auto(graph: Graph, axes: Axes, split: PlanSplit, parts: int) -> list[int]:
    """The axes worth splitting. Raises PlanError where none can be split in `parts`."""
    found = tensor_parallel_axes(graph, axes, parts)
    if not found and parts > 1:
        whole = tensor_parallel_axes(graph, axes, 1)
        sizes = ", ".join(f"{axes.axes[a].name} ({axes.axes[a].size})" for a in whole[:4])
        have = f"those worth splitting are {sizes}" if sizes else "no product has such an axis"
        raise PlanError(
            f"split auto on {split.dim} by {parts}: no axis of the parameters' products comes out "
            f"even; {have}; use a number of parts that divides some, or name an axis"
        )
    return found


def _sequence(
    graph: Graph, axes: Axes, split: PlanSplit, parts: int, before: tuple[int, ...]
) -> list[int]:
    """The axes of tokens that come out even, of a model without any none. Raises PlanError where no
    earlier split of the dim is tensor-parallel."""
    if parts > 1 and not before:
        raise PlanError(
            f"split sequence on {split.dim} by {parts}: expected a tensor-parallel split on "
            f"{split.dim} before it, found none; list {{axis: auto, dim: {split.dim}}} first, or "
            "leave it out"
        )
    found = token_axes(graph, axes, set(before))
    return [a for a in found if axes.axes[a].size % parts == 0]


def _context(graph: Graph, axes: Axes, split: PlanSplit, parts: int) -> list[int]:
    """The axes of attention's positions. Raises PlanError where none can be split in `parts`."""
    found = context_axes(graph, axes, striped=split.striped)
    fits = [a for a in found if comes_out(axes.axes[a].size, parts, split.uneven)]
    if not found:
        raise PlanError(
            f"split context on {split.dim} by {parts}: no operator is an attention that can be "
            "split; name the axis of the positions instead (`superscaler axes` lists all)"
        )
    if not fits:
        axis = axes.axes[found[0]]
        what = f"split context on {split.dim} by {parts}"
        raise PlanError(indivisible(what, axis.name, str(axis.size), axis.size, parts))
    return fits


def indivisible(what: str, axis: str, shown: str, size: int, parts: int) -> str:
    """The error of a split that does not come out even, with what would."""
    divisors = [str(n) for n in range(2, size + 1) if size % n == 0][:6]
    way = f"use {', '.join(divisors)}" if divisors else "it cannot be split"
    return (
        f"{what}: axis {axis} has {shown} elements, not divisible by {parts}; {way}, "
        "or allow uneven parts (`uneven: true` of the split in a plan file)"
    )


def taken_apart(graph: Graph, axes: Axes, axis: int) -> str:
    """What else helps where the step takes the batch apart, so that `batch` is less than it."""
    leaves = [t for t in graph.batch if t >= 0 and graph.tensors[t].shape]
    sizes = [graph.tensors[t].shape[0] for t in leaves if axis in axes.slots[t]]
    whole = max(sizes, default=0)
    if axes.axes[axis].name != "batch" or whole <= axes.axes[axis].size:
        return ""
    return f", or let the step take its batch of {whole} in fewer parts, or whole"


def comes_out(size: int, count: int, uneven: bool) -> bool:
    """Whether an axis can be split in `count` parts."""
    return size % count == 0 if not uneven else size >= count

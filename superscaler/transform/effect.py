"""Effect: splits of a plan that split no operator at all, or fewer than one would think."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from superscaler.errors import PlanError
from superscaler.graph.axis import Axes
from superscaler.graph.graph import Graph
from superscaler.plan import Plan, PlanSplit
from superscaler.transform.partition import MICROBATCH, Placed
from superscaler.transform.select import matches
from superscaler.transform.tensor_parallel import left_whole

PLACES = 100_000  # for the axes of one split in `Rank.order`


@dataclass(frozen=True)
class Rank:
    """How a mesh dim treats one axis: lower `order` wins, `where` and `uneven` as in PlanSplit."""

    order: int
    where: tuple[str, ...]
    uneven: bool


SplitTable = dict[str, dict[int, Rank]]  # mesh dim -> axis -> rank


def split_entries(plan: Plan) -> list[tuple[int, PlanSplit]]:
    """The plan's splits and their numbers; that of the batch in microbatches, which goes without
    saying, is number -1."""
    entries = list(enumerate(plan.splits))
    if plan.microbatches > 1 and not any(s.dim == MICROBATCH for s in plan.splits):
        entries.insert(0, (-1, PlanSplit("batch", MICROBATCH)))
    return entries


def check_effect(
    graph: Graph, axes: Axes, plan: Plan, table: SplitTable, placed: Sequence[Placed]
) -> tuple[str, ...]:
    """Notes on splits that change nothing, as others of the dim come first or sizes are not even,
    and on products that splits of what is worth it leave whole.

    Splits of an axis that an earlier split of the dim has (a tied embedding and head) are as good
    as that one. Raises PlanError for a split of an axis that no operator in its modules has.
    """
    used = _used(axes, placed)
    notes: list[str] = []
    for number, split in split_entries(plan):
        own = {a for a, rank in table[split.dim].items() if rank.order // PLACES == number}
        parts = max(split.parts, *(stage.mesh.get(split.dim, 1) for stage in plan.stages))
        if split.dim == MICROBATCH:
            parts = plan.microbatches
        if parts == 1:
            continue
        what, names = f"split {split.axis} on {split.dim}", _names(axes, own)
        if split.axis == "auto":
            notes += _left_whole(graph, axes, split, parts)
        if own & used.get(split.dim, set()):
            continue
        if split.axis == "sequence":
            notes.append(
                f"{what} changes nothing: the products split there put out no tokens that {parts} "
                "divides"
            )
        elif own and not _occurs(graph, axes, split, own):
            if split.axis == "batch" and not split.where:
                raise PlanError(what + _needed_whole(graph, axes, own))
            raise PlanError(
                f"{what}: no operator of {', '.join(split.where) or 'the model'} has the axis "
                f"({names}) where it can be split; name other modules, or leave it out"
            )
        elif own:
            notes.append(
                f"{what} changes nothing: where operators have the axis ({names}), other splits on "
                f"{split.dim} come first, or it does not come out even"
            )
    return tuple(notes)


def _left_whole(graph: Graph, axes: Axes, split: PlanSplit, parts: int) -> Iterator[str]:
    found = [axes.axes[a] for a in left_whole(graph, axes, parts, split.where)]
    if not found:
        return
    shown = ", ".join(f"{axis.name} ({axis.size})" for axis in found[:3])
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    yield (
        f"split auto on {split.dim} by {parts}: products are left whole, as {parts} does not "
        f"divide {shown}{more}; a number of parts that divides them splits them too"
    )


def _names(axes: Axes, own: set[int]) -> str:
    return ", ".join(axes.axes[a].name for a in sorted(own)[:3])


def _occurs(graph: Graph, axes: Axes, split: PlanSplit, own: set[int]) -> bool:
    """Whether an operator in the split's modules, that is more than a view, has one of the axes
    where it can be split."""
    return any(
        it.axis in own and not it.frozen
        for op, found in zip(graph.operators, axes.operators, strict=True)
        if not found.rule.is_view
        if not split.where or any(matches(op.module, p) for p in split.where)
        for it in found.iters
    )


def _needed_whole(graph: Graph, axes: Axes, own: set[int]) -> str:
    """Where the step needs all of the batch at once, and the way out."""
    for op, found in zip(graph.operators, axes.operators, strict=True):
        read = {axis for t in op.inputs for axis in axes.slots[t]}
        if not own & (read - {it.axis for it in found.iters if not it.frozen}):
            continue
        if not found.rule.is_view:
            return f": {op.source or op.name}, needs the whole batch ({op.target}); leave it out"
        return (
            f": {op.source or op.name}, takes parts of the batch that are not alike, or single "
            "samples; give the model the whole batch (or parts of one size, that the split "
            "divides), and let `microbatches` of the plan accumulate gradients"
        )
    return ": no operator of the model has the axis (batch) where it can be split; leave it out"


def _used(axes: Axes, placed: Sequence[Placed]) -> dict[str, set[int]]:
    """Grid dim -> the axes that some operator, that is more than a view, is split on along it."""
    used: dict[str, set[int]] = {}
    for own, at in zip(axes.operators, placed, strict=True):
        if own.rule.is_view:
            continue
        for name, size, role in zip(at.grid.names, at.grid.shape, at.roles):
            if role >= 0 and size > 1:
                used.setdefault(name, set()).add(own.iters[role].axis)
    return used

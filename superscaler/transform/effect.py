"""Effect: splits of a plan that split no operator at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from superscaler.errors import PlanError
from superscaler.graph.axis import Axes
from superscaler.plan import Plan, PlanSplit
from superscaler.transform.partition import Placed

PLACES = 100_000  # for the axes of one split in `Rank.order`


@dataclass(frozen=True)
class Rank:
    """How a mesh dim treats one axis: lower `order` wins, `where` and `uneven` as in PlanSplit."""

    order: int
    where: tuple[str, ...]
    uneven: bool


SplitTable = dict[str, dict[int, Rank]]  # mesh dim -> axis -> rank


def check_effect(
    axes: Axes, plan: Plan, table: SplitTable, placed: Sequence[Placed]
) -> tuple[str, ...]:
    """Notes on sequence splits that change nothing: policies ask for them whatever the model is.

    Splits of an axis that an earlier split of the dim has (a tied embedding and head) are as good
    as that one. Raises PlanError for another split that splits no operator.
    """
    used, notes = _used(axes, placed), []
    for number, split in enumerate(plan.splits):
        own = {a for a, rank in table[split.dim].items() if rank.order // PLACES == number}
        sizes = [stage.mesh.get(split.dim, 1) for stage in plan.stages]
        if max(split.parts, *sizes) == 1 or own & used.get(split.dim, set()):
            continue
        if split.axis == "sequence":
            notes.append(
                f"split sequence on {split.dim} changes nothing: the products split there put out "
                f"no tokens that {max(sizes)} divides"
            )
        elif own:
            raise PlanError(_idle(axes, split, own))
    return tuple(notes)


def _idle(axes: Axes, split: PlanSplit, own: set[int]) -> str:
    names = ", ".join(axes.axes[a].name for a in sorted(own)[:3])
    place = f" of {', '.join(split.where)}" if split.where else ""
    return (
        f"split {split.axis} on {split.dim}: it splits no operator{place}: none has the axis "
        f"({names}) in a size that comes out even, or other splits on {split.dim} come first; "
        "leave it out, list it earlier, or name other modules"
    )


def _used(axes: Axes, placed: Sequence[Placed]) -> dict[str, set[int]]:
    """Grid dim -> the axes that some operator is split on along it."""
    used: dict[str, set[int]] = {}
    for own, at in zip(axes.operators, placed, strict=True):
        for name, size, role in zip(at.grid.names, at.grid.shape, at.roles):
            if role >= 0 and size > 1:
                used.setdefault(name, set()).add(own.iters[role].axis)
    return used

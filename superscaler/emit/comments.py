"""Comments: where an operator comes from, and what a conversion does, in words."""

from __future__ import annotations

from superscaler.graph.operator import Operator, Phase
from superscaler.materialize.program import Conversion, Program
from superscaler.transform.layout import Layout
from superscaler.units import named_ranks


def operator_comment(op: Operator) -> str:
    where = op.module or "(top)"
    phase = {Phase.BACKWARD: " backward", Phase.FORWARD: "", Phase.UPDATE: " update"}[op.phase]
    return f"{where}{phase}  {op.source}".rstrip()


def conversion_comment(program: Program, conversion: Conversion) -> str:
    """What a conversion does, from -> to."""
    name = program.partition.graph.tensors[conversion.tensor].name
    ends = [
        layout_text(program, conversion.tensor, x)
        for x in (conversion.route.source, conversion.route.target)
    ]
    grids = (conversion.route.source.grid, conversion.route.target.grid)
    ranks = [named_ranks(sorted(set(grid.devices.ravel().tolist()))) for grid in grids]
    if ranks[0] != ranks[1]:
        ends = [f"{end} ({where})" for end, where in zip(ends, ranks)]
    return f"{name}: {ends[0]} -> {ends[1]}"


def layout_text(program: Program, tensor: int, layout: Layout) -> str:
    """A layout in words: `batch/2 on dp, partial sums on tp`."""
    axes = program.partition.axes
    words = []
    for name, role, count in zip(layout.grid.names, layout.roles, layout.grid.shape):
        if count == 1:
            continue
        if role >= 0:
            words.append(f"{axes.axes[axes.slots[tensor][role]].name}/{count} on {name}")
        elif role == -2:
            words.append(f"partial {layout.reduce} over {name}")
    return ", ".join(words) or "whole"

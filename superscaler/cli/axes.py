"""`superscaler axes`: the axes that can be split, and the operators that cannot."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from superscaler.cli.options import AsJson, Settings, WorkloadName, load, trace_workload
from superscaler.cli.output import print_json, print_table, progress
from superscaler.units import bytes_text

if TYPE_CHECKING:
    from superscaler.cli.axis_costs import AxisUse, Unruled
    from superscaler.graph.axis import Axes
    from superscaler.graph.graph import Graph


def axes(
    workload: WorkloadName,
    settings: Settings = None,
    every_axis: Annotated[
        bool, typer.Option("--all", help="Also axes of no parameter, and each layer's own.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List the axes of the step: what can be split, where it occurs, and what a split costs.

    A plan splits an axis by its name (batch) or by a spot that it occurs in
    (layers.*.fc1.weight:0). [b]work[/]: the share of the arithmetic that a split divides.
    [b]reduce[/]: partial sums that a split leaves, which are added up between devices.
    [b]gather[/]: operands of operators that need the axis whole.

    Examples:

        superscaler axes examples/gpt.py:workload

        superscaler axes examples/llama_hf.py:workload --set layers=2 --all
    """
    with progress(f"loading {workload}") as say:
        made = load(workload, settings)
        say("tracing the step")
        graph = trace_workload(made)
        say("finding the axes")
        from superscaler.trace.axes import infer_axes

        found = infer_axes(graph)
    if as_json:
        print_json(as_data(graph, found))
    else:
        _print(graph, found, every_axis)


def as_data(graph: Graph, found: Axes) -> dict[str, Any]:
    """Every axis and every operator without a rule, as plain data."""
    from superscaler.cli.axis_costs import axis_uses, unruled

    return {
        "axes": [asdict(use) for use in axis_uses(graph, found)],
        "without_rule": [asdict(group) for group in unruled(graph, found)],
    }


def _print(graph: Graph, found: Axes, every_axis: bool) -> None:
    from rich.table import Table

    from superscaler.cli.axis_costs import alike, axis_uses, unruled

    uses = axis_uses(graph, found)
    shown = uses if every_axis else alike(use for use in uses if use.spots)
    table = Table(box=None, pad_edge=False)
    for title in ("axis", "size", "axes", "operators", "need it whole", "work", "reduce", "gather"):
        table.add_column(title, justify="left" if title == "axis" else "right")
    table.add_column("occurs in", overflow="fold")
    for use in shown:
        table.add_row(*_cells(use))
    print_table(table, "", *_rule_lines(unruled(graph, found), len(graph.operators)))


_MAX_SPOTS = 4


def _cells(use: AxisUse) -> list[str]:
    spots = [spot for spot in use.spots if spot != use.name]
    rest = f", and {len(spots) - _MAX_SPOTS} more" if len(spots) > _MAX_SPOTS else ""
    return [
        use.name,
        str(use.size),
        str(use.count),
        str(use.num_operators),
        str(use.num_whole or ""),
        f"{use.work:.0%}",
        bytes_text(use.partial_bytes) if use.partial_bytes else "",
        bytes_text(use.gather_bytes) if use.gather_bytes else "",
        ", ".join(spots[:_MAX_SPOTS]) + rest,
    ]


def _rule_lines(groups: list[Unruled], total: int) -> list[str]:
    if not groups:
        return [f"all {total} operators have an axis rule"]
    count = sum(len(group.operators) for group in groups)
    lines = [f"[yellow]{count} of {total} operators have no axis rule and are never split:[/]"]
    for group in groups:
        names = ", ".join(group.operators[:3]) + (", ..." if len(group.operators) > 3 else "")
        lines.append(f"  {group.target} ({len(group.operators)}): {names}")
    return [*lines, "superscaler.register_op gives one its rule"]

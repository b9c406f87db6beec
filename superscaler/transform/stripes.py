"""Stripes: an axis cut in two, so that splitting the minor one deals out every n-th element."""

from __future__ import annotations

from superscaler.graph.axis import Axes, Stripe
from superscaler.graph.graph import Graph
from superscaler.plan import Plan
from superscaler.trace.axes import infer_axes
from superscaler.transform.split_axes import axes_of


def striped_axes(graph: Graph, axes: Axes, plan: Plan) -> Axes:
    """The axes with those of striped splits cut in two, the minor one as large as the mesh dim.

    Before: seq (4096) split on cp by 4 would be 0-1023, 1024-2047, ...
    After:  seq.0 (1024), seq.1 (4), and seq.1 split on cp by 4 is 0, 4, 8, ... and 1, 5, 9, ...

    Causal attention is as much work on each part, where contiguous parts would have the less the
    earlier they are. Source: Striped attention, arXiv 2311.09431.
    Raises PlanError for an axis that does not exist, or that the mesh dim does not divide.
    """
    found: dict[int, int] = {}
    for split in plan.splits:
        if split.striped:
            parts = max(stage.mesh.get(split.dim, 1) for stage in plan.stages)
            whole = axes_of(graph, axes, split, parts)
            found.update((axis, parts) for axis in whole if 1 < parts < axes.axes[axis].size)
    if not found:
        return axes
    return infer_axes(graph, tuple(_stripe(axes, axis, parts) for axis, parts in found.items()))


def _stripe(axes: Axes, axis: int, parts: int) -> Stripe:
    tensor, slots = next((t, slots) for t, slots in enumerate(axes.slots) if axis in slots)
    return tensor, slots.index(axis), parts

"""Views go after the gather: readers of a tensor and of its transpose then share one gather."""

from __future__ import annotations

from dataclasses import replace

from superscaler.transform.partition import REPLICATE, Partition, Placed


def delay_views(partition: Partition) -> Partition:
    """Replicate a view along a grid dim if all its readers need the whole along it anyway.

    Before: y = t(x part), gather y, mm(y);   gather x, mm(x)
    After:  gather x, y = t(x), mm(y), mm(x)

    The gather moves the same bytes, and serves other readers of x as well.
    """
    graph, axes = partition.graph, partition.axes
    placed = list(partition.placed)
    results = set(graph.results)
    for op in reversed(graph.operators):
        own = axes.operators[op.id]
        is_inner = len(op.inputs) == len(op.outputs) == 1 and op.inputs[0] in graph.producer
        if not own.rule.is_view or not is_inner or op.outputs[0] in results:
            continue
        for dim in placed[op.id].grid.space_dims:
            if placed[op.id].roles[dim] >= 0 and _all_read_whole(partition, placed, op.id, dim):
                roles = list(placed[op.id].roles)
                roles[dim] = REPLICATE
                placed[op.id] = replace(placed[op.id], roles=tuple(roles))
    return partition.with_placed(tuple(placed))


def _all_read_whole(partition: Partition, placed: list[Placed], op: int, dim: int) -> bool:
    """Whether no reader, all on the view's grid, splits the view's output along the grid dim."""
    graph, axes = partition.graph, partition.axes
    readers = graph.consumers.get(graph.operators[op].outputs[0], ())
    for reader, i in readers:
        if placed[reader].grid.key != placed[op].grid.key:
            return False
        role = placed[reader].roles[dim]
        if role < 0 and role != REPLICATE or role in axes.operators[reader].inputs[i]:
            return False
    return bool(readers)

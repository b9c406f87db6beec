"""Schedule: from a partition to tasks in execution order."""

from __future__ import annotations

import networkx as nx

from superscaler.errors import ScheduleError
from superscaler.schedule.linear import Timed, has_cycle, linearize
from superscaler.schedule.segments import (
    ORDERED,
    Edge,
    build_segments,
    data_edges,
    single_segments,
    update_edges,
)
from superscaler.schedule.tasks import TaskGraph, build_tasks
from superscaler.transform.cost import cost
from superscaler.transform.match import ALL, TimeMatch
from superscaler.transform.partition import Partition


def build_schedule(partition: Partition) -> tuple[TaskGraph, Timed]:
    """Tasks and the order all devices follow.

    Raises ScheduleError with the cycle when orders contradict dependencies.
    """
    edges = [*data_edges(partition), *update_edges(partition), *_order_edges(partition)]
    order = _operator_order(partition, edges)
    tasks = build_tasks(partition, build_segments(partition, edges, order), edges)
    if partition.orders and (not _keeps_orders(partition, tasks) or has_cycle(tasks)):
        # An order can hold between operators and not between the segments that they are part of.
        tasks = build_tasks(partition, single_segments(partition, edges, order), edges)
    return tasks, linearize(tasks, _task_costs(partition, tasks))


def _keeps_orders(partition: Partition, tasks: TaskGraph) -> bool:
    """Whether operators of one segment that are ordered part by part run in that order."""
    for order in partition.orders:
        segment = tasks.segments[tasks.home[order.first]]
        if segment.id == tasks.home[order.second]:
            position = segment.operators.index
            if position(order.first) > position(order.second):
                return False
    return True


def _order_edges(partition: Partition) -> list[Edge]:
    """Orders of whole operators, as edges: part by part where both have the same parts in time."""
    edges = []
    for order in partition.orders:
        if order.first_time is None and order.second_time is None:
            a, b = partition.placed[order.first].grid, partition.placed[order.second].grid
            count = len(a.time_dims)
            aligned = a.time_shape == b.time_shape
            sources = tuple(range(count)) if aligned else (ALL,) * count
            edges.append(Edge(order.first, order.second, ORDERED, TimeMatch(sources)))
    return edges


def _operator_order(partition: Partition, edges: list[Edge]) -> list[int]:
    """The operators' own order, changed only where an op_order asks for it."""
    count = len(partition.graph.operators)
    if not any(e.position == ORDERED for e in edges):
        return list(range(count))
    graph: nx.DiGraph[int] = nx.DiGraph()
    graph.add_nodes_from(range(count))
    graph.add_edges_from((e.producer, e.reader) for e in edges)
    try:
        return list(nx.lexicographical_topological_sort(graph))
    except nx.NetworkXUnfeasible:
        raise ScheduleError(_cycle_text(partition, graph, edges)) from None


def _cycle_text(partition: Partition, graph: nx.DiGraph[int], edges: list[Edge]) -> str:
    kinds = {(e.producer, e.reader): e.kind for e in edges[::-1]}
    lines = ["the order is cyclic: these operators wait for each other"]
    for a, b in nx.find_cycle(graph):
        names = [partition.graph.operators[i].name for i in (b, a)]
        ranks = [sorted(set(partition.placed[i].grid.devices.ravel().tolist())) for i in (b, a)]
        lines.append(f"  {names[0]} {ranks[0]} waits for {names[1]} {ranks[1]} ({kinds[a, b]})")
    lines.append("remove one of the op_order edges")
    return "\n".join(lines)


def _task_costs(partition: Partition, tasks: TaskGraph) -> list[float]:
    """Estimated duration of each task: its operators' work on one part."""
    per_segment = []
    for segment in tasks.segments:
        parts = max(1, segment.grid.devices.size)
        total = sum(cost(partition.graph, partition.axes, op) for op in segment.operators)
        per_segment.append(1.0 + total / parts)
    return [per_segment[t.segment] for t in tasks.tasks]

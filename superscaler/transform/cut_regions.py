"""Cut regions: the connected forward operators that a split in time cuts, to be run again."""

from __future__ import annotations

import networkx as nx

from superscaler.graph.axis import Axes
from superscaler.graph.graph import Graph
from superscaler.graph.operator import Operator, Phase
from superscaler.plan import Plan
from superscaler.transform.effect import Rank
from superscaler.transform.parameters import of_parameters
from superscaler.transform.recompute import Region
from superscaler.transform.select import matches
from superscaler.transform.spmd import split_table


def cut_regions(graph: Graph, axes: Axes, plan: Plan) -> dict[int, Region]:
    """Forward operator -> its region, for the plan's splits in time that ask for recompute.

    A region is what the parts can do one after the other: run again, then backward, so that only
    one part's values are alive at a time. Operators on parameters alone are left out.
    """
    dims = {s.dim for s in plan.splits if s.recompute}
    if not dims:
        return {}
    table = split_table(graph, axes, plan)
    alone = of_parameters(graph)
    regions: nx.Graph[int] = nx.Graph()
    for dim in sorted(dims):
        cut = [
            op
            for op in graph.operators
            if op.phase is Phase.FORWARD and op.id not in alone and _is_cut(axes, op, table[dim])
        ]
        regions.add_nodes_from(op.id for op in cut)
        for op in cut:
            makers = (graph.producer[t][0] for t in op.inputs if t in graph.producer)
            regions.add_edges_from((m, op.id) for m in makers if m in regions)
    parts = sorted(nx.connected_components(regions), key=min)
    return {op: number for number, ops in enumerate(parts) for op in sorted(ops)}


def _is_cut(axes: Axes, op: Operator, ranks: dict[int, Rank]) -> bool:
    for it in axes.operators[op.id].iters:
        rank = ranks.get(it.axis)
        if rank is None or it.frozen:
            continue
        if not rank.where or any(matches(op.module, p) for p in rank.where):
            return True
    return False

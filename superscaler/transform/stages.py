"""Stages: which pipeline stage each operator belongs to."""

from __future__ import annotations

from bisect import bisect_right

from superscaler.errors import PlanError
from superscaler.graph.axis import Axes
from superscaler.graph.graph import Graph
from superscaler.graph.operator import Phase
from superscaler.ops.copies import COPIES
from superscaler.plan import Plan
from superscaler.transform.cost import cost
from superscaler.transform.select import matches

WINDOW = 0.25  # of a stage: how far a cut may move to cross fewer bytes


def assign_stages(graph: Graph, axes: Axes, plan: Plan) -> list[int]:
    """The stage of every operator: forward by pattern or by cost, the rest follows."""
    forward = [
        op.id for op in graph.operators if op.phase is Phase.FORWARD and op.target not in COPIES
    ]
    if any(s.modules for s in plan.stages):
        stage = _by_pattern(graph, plan, forward)
    else:
        stage = _by_cost(graph, axes, forward, len(plan.stages))
    return _complete(graph, stage)


def _by_pattern(graph: Graph, plan: Plan, forward: list[int]) -> dict[int, int]:
    """Named modules to their stage; operators outside of them stay with the one before."""
    stage: dict[int, int] = {}
    current = 0
    used = set()
    for op in forward:
        for s, entry in enumerate(plan.stages):
            if any(matches(graph.operators[op].module, p) for p in entry.modules):
                current = s
                used.add(s)
                break
        stage[op] = current
    for s, entry in enumerate(plan.stages):
        if entry.modules and s not in used:
            modules = sorted({graph.operators[op].module for op in forward})
            raise PlanError(
                f"stage {s}: no operator matches {', '.join(entry.modules)}; "
                f"the model has {', '.join(modules[:5])}, ..."
            )
    return stage


def _by_cost(graph: Graph, axes: Axes, forward: list[int], count: int) -> dict[int, int]:
    """Contiguous pieces of about equal cost, cut where few bytes cross."""
    costs = [cost(graph, axes, op) for op in forward]
    crossing = _crossing_bytes(graph, forward)
    total = sum(costs) or 1.0
    sums = [0.0]
    for c in costs:
        sums.append(sums[-1] + c)
    cuts: list[int] = []
    for k in range(1, count):
        target, reach = total * k / count, WINDOW * total / count
        low = max(bisect_right(sums, target - reach), (cuts[-1] if cuts else 0) + 1)
        near = [p for p in range(low, len(forward)) if sums[p] <= target + reach]
        if not near:
            near = [min(max(low, 1), len(forward) - 1)]
        cuts.append(min(near, key=lambda p: (crossing[p], abs(sums[p] - target))))
    return {op: bisect_right(cuts, i) for i, op in enumerate(forward)}


def _crossing_bytes(graph: Graph, forward: list[int]) -> list[int]:
    """Per position in `forward`: bytes of values made before it and read at or after it."""
    position = {op: i for i, op in enumerate(forward)}
    change = [0] * (len(forward) + 2)
    for op in forward:
        for t in graph.operators[op].outputs:
            readers = [position[r] for r, _ in graph.consumers.get(t, ()) if r in position]
            if readers:
                change[position[op] + 1] += graph.tensors[t].num_bytes
                change[max(readers) + 1] -= graph.tensors[t].num_bytes
    crossing, now = [], 0
    for c in change:
        now += c
        crossing.append(now)
    return crossing


def _complete(graph: Graph, forward: dict[int, int]) -> list[int]:
    """Backward operators go with their forward, but never to a later stage than what they read
    from the backward; updates go to the first stage that reads the parameter."""
    stage = [0] * len(graph.operators)
    last = max(forward.values(), default=0)
    for op in graph.operators:
        if op.id in forward:
            stage[op.id] = forward[op.id]
        elif op.phase is Phase.FORWARD:  # a copy that operator `forward` reads, or its backward
            stage[op.id] = forward[op.forward]
        elif op.phase is Phase.BACKWARD:
            own = stage[op.forward] if op.forward >= 0 else last
            makers = [graph.producer[t][0] for t in op.inputs if t in graph.producer]
            backward = [stage[m] for m in makers if graph.operators[m].phase is Phase.BACKWARD]
            stage[op.id] = min([own, *backward])
    for update in graph.updates:
        readers = [stage[r] for r, _ in graph.consumers.get(update.param, ()) if r in forward]
        maker = graph.producer.get(update.grad)
        own = stage[maker[0]] if maker else 0
        stage[update.operator] = min(readers, default=own)
    return stage

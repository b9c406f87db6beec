"""Stages: which pipeline stage each operator belongs to."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches

from superscaler.errors import PlanError
from superscaler.graph.axis import Axes
from superscaler.graph.graph import Graph
from superscaler.graph.operator import Operator, Phase
from superscaler.ops.copies import COPIES
from superscaler.plan import Plan
from superscaler.transform.cuts import by_cost, by_first
from superscaler.transform.select import matches


def assign_stages(graph: Graph, axes: Axes, plan: Plan) -> list[int]:
    """The stage of every operator: forward by name, pattern or cost, the rest follows.

    Where the forward comes back from a later stage to an earlier one (recycling, which runs the
    same modules several times), each visit is a stage of its own: visit v of stage s of S is
    number v * S + s.
    """
    forward = forward_operators(graph)
    if any(s.first for s in plan.stages):
        stage = by_first(graph, forward, plan.stages)
    elif all(s.modules for s in plan.stages):
        stage = _by_pattern(graph, plan, forward)
    elif any(s.modules for s in plan.stages):
        stage = _by_both(graph, axes, plan, forward)
    else:
        stage = by_cost(graph, axes, forward, len(plan.stages))
    return _complete(graph, _by_visit(graph, stage, len(plan.stages)), len(plan.stages))


def forward_operators(graph: Graph) -> list[int]:
    """What a plan's stages share among them, in order; copies go with their readers."""
    return [
        op.id for op in graph.operators if op.phase is Phase.FORWARD and op.target not in COPIES
    ]


def num_visits(labels: Collection[str], count: int) -> int:
    """How many times the forward comes through the plan's `count` stages, by operators' labels."""
    stages = [int(label.rpartition("_")[2]) for label in labels if label.startswith("forward_")]
    return 1 + max(stages, default=0) // count


def _by_visit(graph: Graph, stage: dict[int, int], count: int) -> dict[int, int]:
    """A new visit begins where an operator reads what a later stage made."""
    visit: dict[int, int] = {}
    for op in sorted(stage):
        found = [visit[m] + (stage[m] > stage[op]) for m in _makers(graph, op) if m in visit]
        visit[op] = max(found, default=0)
    return {op: visit[op] * count + s for op, s in stage.items()}


def _by_pattern(graph: Graph, plan: Plan, forward: list[int]) -> dict[int, int]:
    """Named modules to their stage; operators outside of them stay with the one before."""
    named = _named(graph, plan, forward)
    stage: dict[int, int] = {}
    current = 0
    for op in forward:
        current = named.get(op, current)
        stage[op] = current
    return stage


def _by_both(graph: Graph, axes: Axes, plan: Plan, forward: list[int]) -> dict[int, int]:
    """Named modules to their stage, the rest cut by cost among the stages without names; but what
    reads from a later stage runs there, and what is made of the batch alone with its readers."""
    named = _named(graph, plan, forward)
    rest = [op for op in forward if op not in named]
    free = [s for s, entry in enumerate(plan.stages) if not entry.modules]
    cut = by_cost(graph, axes, rest, len(free))
    stage: dict[int, int] = {}
    for op in forward:
        latest = max((stage[m] for m in _makers(graph, op) if m in stage), default=0)
        stage[op] = named[op] if op in named else max(free[cut[op]], latest)
    light = _on_batch_alone(graph, rest)
    for op in reversed(rest):
        if op in light:
            outputs = graph.operators[op].outputs
            readers = [r for t in outputs for r, _ in graph.consumers.get(t, ()) if r in stage]
            stage[op] = min((stage[r] for r in readers), default=stage[op])
    return stage


def _on_batch_alone(graph: Graph, ops: list[int]) -> set[int]:
    """Operators on the batch and constants, and on what such operators make of them."""
    params = {u.param for u in graph.updates}
    found: set[int] = set()
    for op in ops:
        inputs = graph.operators[op].inputs
        if not params.intersection(inputs) and all(m in found for m in _makers(graph, op)):
            found.add(op)
    return found


def _makers(graph: Graph, op: int) -> list[int]:
    """The operators whose values an operator reads."""
    return [graph.producer[t][0] for t in graph.operators[op].inputs if t in graph.producer]


def _named(graph: Graph, plan: Plan, forward: list[int]) -> dict[int, int]:
    """Forward operators of modules that a stage names."""
    found: dict[int, int] = {}
    for op in forward:
        for s, entry in enumerate(plan.stages):
            if any(matches(graph.operators[op].module, p) for p in entry.modules):
                found[op] = s
                break
    modules = sorted({graph.operators[op].module for op in forward})
    for s, entry in enumerate(plan.stages):
        for pattern in entry.modules:
            if not any(matches(module, pattern) for module in modules):
                raise PlanError(
                    f"stage {s}: no operator matches {pattern}; {_near(pattern, modules)}"
                )
        if entry.modules and s not in found.values():
            raise PlanError(
                f"stage {s}: earlier stages have all operators of {', '.join(entry.modules)}; name "
                "modules that they leave"
            )
    return found


def _near(pattern: str, modules: list[str]) -> str:
    """The modules, and those around them, whose names are nearest to a pattern."""
    paths = [m.split(".") for m in modules if m]
    names = sorted({".".join(path[:k]) for path in paths for k in range(1, len(path) + 1)})
    close = get_close_matches(pattern, names, 3, 0.3) or names[:5]
    return f"the model has {', '.join(close) or 'no modules with operators'}, ..."


def _complete(graph: Graph, forward: dict[int, int], count: int) -> list[int]:
    """Backward operators go with their forward, but never to a later stage than what they read
    from the backward, and with that where it is another visit of the same of the `count` stages;
    what comes after the backward (clipping) goes where most of what it reads is; a copy goes with
    its reader; updates go to the first stage that reads the parameter."""
    stage = [0] * len(graph.operators)
    last = max(forward.values(), default=0)
    after = _after_backward(graph)
    for op in graph.operators:
        if op.id in forward:
            stage[op.id] = forward[op.id]
        elif _follows(op):
            continue
        elif op.phase is Phase.FORWARD:  # a copy for the backward of operator `forward`
            stage[op.id] = forward[op.forward]
        elif op.phase is Phase.BACKWARD:
            own = stage[op.forward] if op.forward >= 0 else last
            made = [t for t in op.inputs if _is_made_in_backward(graph, t)]
            if op.id in after:
                most = max((graph.tensors[t].num_bytes for t in made), default=0)
                made = [t for t in made if graph.tensors[t].num_bytes == most]
            read = min((stage[graph.producer[t][0]] for t in made), default=own)
            stage[op.id] = read if read % count == own % count else min(own, read)
    for op in reversed(graph.operators):
        if _follows(op):
            stage[op.id] = stage[op.forward]
    for update in graph.updates:
        readers = [stage[r] for r, _ in graph.consumers.get(update.param, ()) if r in forward]
        maker = graph.producer.get(update.grad)
        own = stage[maker[0]] if maker else 0
        stage[update.operator] = min(readers, default=own)
    return stage


def _after_backward(graph: Graph) -> set[int]:
    """Operators without a forward of their own that no backward of a forward waits for: they make
    gradients into what updates read."""
    before: set[int] = set()
    for op in reversed(graph.operators):
        if op.forward >= 0 or op.id in before:
            before.update(_makers(graph, op.id))
    backward = [op for op in graph.operators if op.phase is Phase.BACKWARD]
    return {op.id for op in backward if op.forward < 0} - before


def _is_made_in_backward(graph: Graph, t: int) -> bool:
    """Whether an operator of the backward makes tensor t, and does not follow its reader."""
    if t not in graph.producer:
        return False
    maker = graph.operators[graph.producer[t][0]]
    return maker.phase is Phase.BACKWARD and not _follows(maker)


def _follows(op: Operator) -> bool:
    """Whether an operator is a copy that goes where its reader goes."""
    return op.target in COPIES and op.forward > op.id

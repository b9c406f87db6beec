"""Random plans as data: stages, meshes, splits, microbatches, recomputation, optimizer sharding."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from random import Random

from superscaler.graph.axis import Axes
from superscaler.graph.graph import Graph
from superscaler.plan import (
    ORDERS,
    PLACEMENTS,
    TWO_WAY_ORDERS,
    V_ORDERS,
    Plan,
    PlanAssign,
    PlanOptimizer,
    PlanRewrite,
    PlanSchedule,
    PlanSplit,
    PlanStage,
)
from superscaler.transform.stages import forward_operators

MESH_DIMS = ("dp", "tp", "cp")
MAX_DEVICES = 6


def random_plan(rng: Random, graph: Graph, axes: Axes) -> Plan:
    """A plan of one to four stages whose splits mostly fit the graph's axes."""
    stages = _stages(rng)
    order = rng.choice(ORDERS)
    if len(stages) % 2:
        order = "nf1b" if order in (*TWO_WAY_ORDERS, *V_ORDERS) else order
    elif order in TWO_WAY_ORDERS:
        stages = _mirrored(stages)
    elif order in V_ORDERS:
        stages = _there_and_back(stages)
    schedule = PlanSchedule(time_limit_s=2.0)
    is_alike = all(stage.mesh == stages[0].mesh for stage in stages)
    if order == "auto" and is_alike and rng.random() < 0.6:
        schedule = replace(schedule, placement=rng.choice(PLACEMENTS))
    elif rng.random() < 0.25:
        stages = _named(rng, graph, stages)
    dims = sorted({name for stage in stages for name in stage.mesh})
    microbatches = rng.choice((1, 1, 2, 2, 3, 4))
    splits = [split for dim in dims for split in _splits(rng, graph, axes, dim)]
    if microbatches > 1 and rng.random() < 0.8:
        splits.insert(0, PlanSplit("batch", "mb", uneven=True))
    if microbatches > 1 and rng.random() < 0.15:
        splits.append(PlanSplit(_axis(rng, axes, microbatches), "mb", uneven=True))
    if rng.random() < 0.25:
        splits += _cuts(rng, graph, axes)
    plan = Plan(
        stages=stages,
        microbatches=microbatches,
        splits=tuple(splits),
        order=order,
        recompute=_modules(rng, graph, 0.25),
        optimizer=_optimizer(rng, dims),
        assign=tuple(_assign(rng, graph, axes) for _ in range(rng.random() < 0.15)),
        schedule=schedule,
    )
    return _in_context(rng, graph, plan) if "cp" in dims else plan


def _in_context(rng: Random, graph: Graph, plan: Plan) -> Plan:
    """Often with attention's positions split on cp: contiguous or striped, in a ring or not."""
    if not any("attention" in op.target for op in graph.operators) or rng.random() < 0.3:
        return plan
    striped = rng.random() < 0.4
    split = PlanSplit("context", "cp", uneven=not striped, striped=striped)
    ring = PlanRewrite("ring_attention", options={"dim": "cp"})
    rewrites = (ring,) if rng.random() < 0.6 else ()
    return replace(plan, splits=(split, *plan.splits), rewrites=rewrites)


def _stages(rng: Random) -> tuple[PlanStage, ...]:
    count = rng.choice((1, 1, 2, 2, 3, 4))
    limit = max(1, MAX_DEVICES // count) if rng.random() < 0.6 else 4
    mesh = _mesh(rng, limit)
    is_alike = rng.random() < 0.4
    is_apart = rng.random() < 0.7
    stages, used = [], 0
    for _ in range(count):
        mesh = mesh if is_alike else _mesh(rng, limit)
        size = prod(mesh.values())
        if is_apart and used + size <= MAX_DEVICES:
            devices = list(range(used, used + size))
            used += size
        else:
            devices = rng.sample(range(MAX_DEVICES), size)
        if rng.random() < 0.3:
            rng.shuffle(devices)
        stages.append(PlanStage(tuple(devices), mesh))
    return tuple(stages)


def _named(rng: Random, graph: Graph, stages: tuple[PlanStage, ...]) -> tuple[PlanStage, ...]:
    """Stages that begin anywhere: each names its first operator."""
    forward = forward_operators(graph)
    cuts = sorted(rng.sample(range(1, len(forward)), len(stages) - 1))
    firsts = ["", *(graph.operators[forward[at]].name for at in cuts)]
    return tuple(replace(stage, first=first) for stage, first in zip(stages, firsts))


def _mirrored(stages: tuple[PlanStage, ...]) -> tuple[PlanStage, ...]:
    """Each stage on its own device and on that of its mirror image, halves of the batch on each."""
    count = len(stages)
    return tuple(PlanStage((s, count - 1 - s), {"dp": 2}) for s in range(count))


def _there_and_back(stages: tuple[PlanStage, ...]) -> tuple[PlanStage, ...]:
    """Two stages a device, in V form."""
    count = len(stages)
    return tuple(PlanStage((min(s, count - 1 - s),), {"dp": 1}) for s in range(count))


def _cuts(rng: Random, graph: Graph, axes: Axes) -> list[PlanSplit]:
    """Splits in time, of one or two axes."""
    parts, again = rng.choice((2, 2, 3)), rng.random() < 0.6
    names = ["auto"] if rng.random() < 0.2 else [_axis(rng, axes, parts) for _ in range(2)]
    where = _modules(rng, graph, 0.3)
    return [PlanSplit(name, "cut", where, True, parts, again) for name in dict.fromkeys(names)]


def _mesh(rng: Random, limit: int) -> dict[str, int]:
    names = [name for name in MESH_DIMS if rng.random() < 0.6]
    rng.shuffle(names)
    mesh: dict[str, int] = {}
    for name in names or [rng.choice(MESH_DIMS)]:
        size = rng.choice((1, 2, 2, 2, 3, 4))
        if prod(mesh.values()) * size <= limit:
            mesh[name] = size
    return mesh


def _splits(rng: Random, graph: Graph, axes: Axes, dim: str) -> list[PlanSplit]:
    found = []
    if dim == "dp" and rng.random() < 0.7:
        found.append(PlanSplit("batch", dim, uneven=True))
    if dim == "tp" and rng.random() < 0.6:
        found.append(PlanSplit("auto", dim))
        if rng.random() < 0.3:
            found.append(PlanSplit("sequence", dim))
    for _ in range(rng.choice((0, 1, 1, 2, 4))):
        where = _modules(rng, graph, 0.3)
        found.append(PlanSplit(_axis(rng, axes, 2), dim, where, uneven=rng.random() < 0.9))
    return found


def _axis(rng: Random, axes: Axes, parts: int) -> str:
    """An axis that can be cut in `parts`; axes of many operators come up more often."""
    fits = [it.axis for own in axes.operators for it in own.iters if not it.frozen]
    fits = [a for a in fits if axes.axes[a].size >= parts]
    return axes.axes[rng.choice(fits)].name if fits else "batch"


def _modules(rng: Random, graph: Graph, probability: float) -> tuple[str, ...]:
    modules = sorted({op.module for op in graph.operators if op.module})
    if not modules or rng.random() >= probability:
        return ()
    return tuple(dict.fromkeys(rng.choice(modules) for _ in range(rng.choice((1, 2)))))


def _optimizer(rng: Random, dims: list[str]) -> PlanOptimizer:
    if not dims or rng.random() < 0.5:
        return PlanOptimizer()
    return PlanOptimizer(
        rng.choice(dims), rng.choice(("step", "use")), rng.choice(("step", "microbatch"))
    )


def _assign(rng: Random, graph: Graph, axes: Axes) -> PlanAssign:
    """One operator on its own device, or replicated over several."""
    operator = rng.choice(graph.operators).name
    if rng.random() < 0.5:
        return PlanAssign((operator,), (), rng.randrange(MAX_DEVICES))
    copies = rng.choice((2, 3))
    devices = tuple(rng.randrange(MAX_DEVICES) for _ in range(copies))
    return PlanAssign((operator,), (("replicate", copies),), devices)

"""Plans beyond data, tensor and pipeline parallelism: splits, placements and orders, no more."""

from __future__ import annotations

from dataclasses import replace

from superscaler.errors import PlanError
from superscaler.plan import Plan, PlanSplit, PlanStage
from superscaler.policies.check import (
    check_numbers,
    check_patterns,
    check_pipeline,
    check_size,
    policy,
)
from superscaler.policies.mixture import (
    BIDIRECTIONAL,
    mesh_of,
    mixture,
    optimizer_of,
    order_of,
    splits_of,
)


@policy
def coshard(plan: Plan, parts: int, axes: str = "auto", where: str = "") -> Plan:
    """`plan`, with attention and feed-forward parts in sequence on each device, run again in the
    backward: their temporaries fall by `parts` without communication.

    `axes`: those to cut, separated by spaces ("auto": heads and feed-forward, found on the graph);
    `where`: module patterns to which it is limited; a plan with co-shards can have others, in other
    parts, of other modules. Source: SuperScaler, arXiv 2301.08984.
    """
    check_numbers("coshard", parts=parts)
    if not axes.split():
        raise PlanError(f"coshard: expected axes to name at least one, or auto, found {axes!r}")
    modules = tuple(where.split())
    known = {s.dim: s.parts for s in plan.splits}
    names = ("coshard", *(f"coshard{number}" for number in range(2, len(known) + 2)))
    dim = next(name for name in names if known.get(name, parts) == parts)
    cuts = tuple(PlanSplit(a, dim, modules, False, parts, True) for a in axes.split())
    return replace(plan, splits=(*plan.splits, *cuts))


@policy
def bidirectional(
    pp: int,
    microbatches: int,
    order: str = "dualpipe",
    dp: int = 1,
    tp: int = 1,
    zero: int = 0,
    recompute: str = "",
) -> Plan:
    """A pipeline in both directions at once, on two copies of each parameter that are kept equal:
    half of each microbatch runs up the devices, where the other half runs down.

    `order`: dualpipe, chimera, auto, or one for stages in V form. `zero` shards the optimizer over
    the copies. Sources: Chimera, arXiv 2107.06925; DualPipe, arXiv 2412.19437, section 3.2.1.
    """
    return mixture(
        "bidirectional",
        dp=dp,
        tp=tp,
        pp=pp,
        zero=zero,
        microbatches=microbatches,
        order=order,
        recompute=recompute,
        placement=BIDIRECTIONAL,
    )


@policy
def interlaced(
    pp: int,
    microbatches: int,
    embedding: str,
    head: str = "",
    dp: int = 1,
    tp: int = 1,
    order: str = "nf1b",
    zero: int = 0,
    recompute: str = "",
) -> Plan:
    """A pipeline whose embedding, and head, are split by vocabulary over the devices of all stages,
    their steps between those of the other layers.

    `embedding` and `head` are module patterns, separated by spaces; a tied head too is named.
    `zero` (0 to 3) shards the optimizer over dp, as in `hybrid`; `recompute` has patterns of
    modules that run again in the backward. Source: SuperScaler, arXiv 2301.08984 (interlaced
    pipeline).
    """
    check_pipeline("interlaced", microbatches, order, dp=dp, tp=tp, pp=pp)
    check_patterns("interlaced", embedding=embedding)
    inner = mesh_of(dp=dp, tp=tp)
    grid = [[[(s * dp + d) * tp + t for t in range(tp)] for s in range(pp)] for d in range(dp)]
    everyone = tuple(device for copy in grid for stage in copy for device in stage)
    outer = {**mesh_of(dp=dp), "vocab": pp * tp}
    layers = [
        PlanStage(tuple(device for copy in grid for device in copy[s]), inner) for s in range(pp)
    ]
    first = PlanStage(everyone, outer, tuple(embedding.split()))
    last = [PlanStage(everyone, outer, tuple(head.split()))] if head else []
    weights = [f"{module}.weight:0" for module in (*embedding.split(), *head.split())]
    splits = (*splits_of(inner), *(PlanSplit(axis, "vocab") for axis in weights))
    return Plan(
        (first, *layers, *last),
        microbatches,
        splits,
        order_of(order, microbatches),
        tuple(recompute.split()),
        optimizer_of("interlaced", zero, inner),
    )


@policy
def vocabulary_parallel(plan: Plan, embedding: str, head: str = "") -> Plan:
    """`plan`, with the vocabulary of an embedding and a head split over all devices of their stage,
    also over those that are replicas of the other layers: their tokens come to every device, and
    gradients and optimizer states of a huge embedding stay where its rows are.

    `embedding` and `head` are module patterns, separated by spaces. Raises PlanError where the
    plan has nothing to split over.
    """
    check_patterns("vocabulary_parallel", embedding=embedding)
    dims = dict.fromkeys(name for stage in plan.stages for name in stage.mesh)
    if not dims:
        raise PlanError("vocabulary_parallel: expected a plan with dp or tp, found one without")
    modules = (*embedding.split(), *head.split())
    first = (PlanSplit(f"{module}.weight:0", dim) for dim in dims for module in modules)
    return replace(plan, splits=(*first, *plan.splits))


@policy
def three_f_one_b(
    pp: int,
    microbatches: int,
    layers: str,
    count: int,
    first: str = "",
    last: str = "",
    dp: int = 1,
    tp: int = 1,
    order: str = "nf1b",
    zero: int = 0,
    recompute: str = "",
) -> Plan:
    """A pipeline for models that run their layers several times (recycling), early times without
    gradient: several forwards of each stage to one backward.

    Stage s has its share of the `count` modules `layers.0`, `layers.1`, ...; the first and the last
    stage also those that `first` and `last` name. `zero` (0 to 3) shards the optimizer over dp, as
    in `hybrid`; `recompute` has patterns of modules that run again in the backward.
    Source: SuperScaler, arXiv 2301.08984 (3F1B).
    """
    check_pipeline("three_f_one_b", microbatches, order, dp=dp, tp=tp, pp=pp)
    check_size("three_f_one_b", count=count)
    check_patterns("three_f_one_b", layers=layers)
    if count < pp:
        raise PlanError(f"three_f_one_b: expected a count of {pp} or more layers, found {count}")
    mesh = mesh_of(dp=dp, tp=tp)
    width = dp * tp
    stages = []
    for s in range(pp):
        own = [f"{layers}.{i}" for i in range(s * count // pp, (s + 1) * count // pp)]
        named = [*(first.split() if s == 0 else []), *own, *(last.split() if s == pp - 1 else [])]
        stages.append(PlanStage(tuple(range(s * width, (s + 1) * width)), mesh, tuple(named)))
    return Plan(
        tuple(stages),
        microbatches,
        splits_of(mesh),
        order_of(order, microbatches),
        tuple(recompute.split()),
        optimizer_of("three_f_one_b", zero, mesh),
    )

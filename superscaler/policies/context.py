"""Context parallelism: long sequences, split over devices through attention."""

from __future__ import annotations

from dataclasses import replace

from superscaler.errors import PlanError
from superscaler.plan import Plan, PlanRewrite, PlanSplit
from superscaler.policies.check import check_size, policy
from superscaler.policies.mixture import mesh_of, mixture


@policy
def context_parallel(
    cp: int,
    dp: int = 1,
    tp: int = 1,
    pp: int = 1,
    zero: int = 0,
    microbatches: int = 1,
    order: str = "1f1b",
    recompute: str = "",
    uneven: bool = False,
    ring: bool = False,
    striped: bool = False,
) -> Plan:
    """The sequence in `cp` parts through the whole model, each on its own devices.

    Attention gathers keys and values, and their gradients are reduce-scattered; or, with `ring`,
    takes them block by block, one in use and one on its way. With `striped`, part i has every cp-th
    position from i on: causal attention is as much work on each. `zero` shards over dp, or over cp
    where dp is 1; `uneven` allows sequences that cp does not divide. The rest is as in `hybrid`.
    Sources: The Llama 3 Herd of Models, arXiv 2407.21783, section 3.3.2; Ring attention, arXiv
    2310.01889; Striped attention, arXiv 2311.09431.
    """
    check_size("context_parallel", cp=cp, dp=dp, tp=tp, pp=pp)
    asked = {"ring": ring, "striped": striped, "uneven": uneven}
    idle = [name for name, is_asked in asked.items() if is_asked and cp == 1]
    if idle:
        raise PlanError(
            f"context_parallel: {' and '.join(idle)} is about the parts of the sequence; expected "
            "cp of 2 or more, found 1"
        )
    plan = mixture(
        "context_parallel",
        dp=dp * cp,
        tp=tp,
        pp=pp,
        zero=zero,
        microbatches=microbatches,
        order=order,
        recompute=recompute,
    )
    mesh = mesh_of(way=plan.stages[0].mesh.get("way", 1), dp=dp, cp=cp, tp=tp)
    splits = tuple(s for s in plan.splits if s.dim in mesh)
    if cp > 1:
        splits = (*splits, PlanSplit("context", "cp", uneven=uneven, striped=striped))
    shards = plan.optimizer.split and ("dp" if dp > 1 else "cp")
    return replace(
        plan,
        stages=tuple(replace(stage, mesh=mesh) for stage in plan.stages),
        splits=splits,
        rewrites=(PlanRewrite("ring_attention", options={"dim": "cp"}),) if ring else (),
        optimizer=replace(plan.optimizer, split=shards),
    )

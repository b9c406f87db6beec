"""The forms of parallelism everybody uses: splits, placements and orders, nothing else."""

from __future__ import annotations

from superscaler.errors import PlanError
from superscaler.plan import (
    FUSED_ORDERS,
    LOOPED_ORDERS,
    TWO_WAY_ORDERS,
    V_ORDERS,
    Plan,
    PlanOptimizer,
    PlanSchedule,
    PlanSplit,
    PlanStage,
)
from superscaler.policies.check import (
    check_numbers,
    check_order,
    check_size,
    check_tensor_parallel,
    policy,
)
from superscaler.policies.offload import offload

BIDIRECTIONAL = "bidirectional"
FREE = "free"


@policy
def data_parallel(dp: int) -> Plan:
    """Replicas of the model, each on its part of the batch."""
    return hybrid(dp=dp)


@policy
def zero(dp: int, stage: int = 1) -> Plan:
    """Data parallelism with optimizer states (1), gradients (2) and parameters (3) sharded.

    Source: ZeRO, arXiv 1910.02054, section 5.
    """
    return hybrid(dp=dp, zero=stage)


@policy
def megatron(tp: int, sequence_parallel: bool = False) -> Plan:
    """Tensor parallelism on the axes worth splitting; `sequence_parallel` splits tokens elsewhere.

    Source: Megatron-LM, arXiv 1909.08053; sequence parallelism: arXiv 2205.05198.
    """
    return hybrid(tp=tp, sequence_parallel=sequence_parallel)


@policy
def pipeline(
    pp: int,
    microbatches: int,
    order: str = "1f1b",
    stages_per_device: int = 1,
    placement: str = "",
) -> Plan:
    """Stages cut from the graph by cost, with microbatches in a known order, an explicit one, or
    the solver's ("auto").

    Several stages on a device are "looped" (dealt in turn) or "v" (there and back); the orders
    zb_v, v_half and v_min take two stages in V form unless told otherwise. `bidirectional`, which
    the orders chimera and dualpipe take, runs half of each microbatch down the devices and the
    other half up, on two copies of each parameter. "free" leaves it to the solver where stages
    begin and on which devices they run, up to `stages_per_device` (2 or more) on each; it takes
    order="auto".
    """
    return hybrid(
        pp=pp,
        microbatches=microbatches,
        order=order,
        stages_per_device=stages_per_device,
        placement=placement,
    )


@policy
def hybrid(
    dp: int = 1,
    tp: int = 1,
    pp: int = 1,
    zero: int = 0,
    microbatches: int = 1,
    order: str = "1f1b",
    sequence_parallel: bool = False,
    recompute: str = "",
    stages_per_device: int = 1,
    placement: str = "",
    offload_activations: str = "",
    offload_optimizer: bool = False,
    offload_parameters: str = "",
    offload_batch: bool = False,
) -> Plan:
    """Any combination; `recompute` are module patterns, separated by spaces, and so are those of
    what is offloaded (see `offload`).

    Raises PlanError for numbers below 1 or too large, an unknown order, placement or ZeRO stage,
    and sequence parallelism without tensor parallelism.
    """
    check_numbers("hybrid", microbatches=microbatches)
    check_size("hybrid", dp=dp, tp=tp, pp=pp, stages_per_device=stages_per_device)
    if zero not in (0, 1, 2, 3):
        raise PlanError(f"hybrid: expected a ZeRO stage from 0 to 3, found {zero}")
    check_order("hybrid", order)
    if sequence_parallel:
        check_tensor_parallel("hybrid", tp)
    if placement == FREE and order != "auto":
        raise PlanError(
            f"hybrid: placement {FREE} is decided with the order; expected order='auto', found "
            f"{order!r}"
        )
    if order in LOOPED_ORDERS and pp > 1:
        stages_per_device = max(2, stages_per_device)
    if order in V_ORDERS and not placement:
        stages_per_device, placement = max(2, stages_per_device), "v"
    if order in TWO_WAY_ORDERS:
        placement = placement or BIDIRECTIONAL
    mesh = {name: size for name, size in (("dp", dp), ("tp", tp)) if size > 1}
    per_stage = dp * tp
    groups = _groups(pp, stages_per_device, placement)
    ways = [groups]
    if placement == BIDIRECTIONAL:
        mesh = {"way": 2, **mesh}
        ways = [groups, groups[::-1]]
    stages = tuple(
        PlanStage(tuple(g * per_stage + i for g in at for i in range(per_stage)), mesh)
        for at in zip(*ways)
    )
    splits = [PlanSplit("batch", dim) for dim in ("way", "dp") if dim in mesh]
    if tp > 1:
        splits.append(PlanSplit("auto", "tp"))
    if tp > 1 and sequence_parallel:
        splits.append(PlanSplit("sequence", "tp"))
    copies = [dim for dim in ("dp", "way") if dim in mesh]
    shards = zero > 0 and bool(copies)
    optimizer = PlanOptimizer(
        copies[0] if shards else "",
        "use" if shards and zero == 3 else "step",
        "microbatch" if shards and zero >= 2 else "step",
    )
    most = max(stages_per_device, PlanSchedule.stages_per_device)
    search = PlanSchedule(placement=FREE, stages_per_device=most)
    plan = Plan(
        stages,
        microbatches,
        tuple(splits),
        order_of(order, microbatches),
        tuple(recompute.split()),
        optimizer,
        schedule=search if placement == FREE else PlanSchedule(),
    )
    return offload(
        plan, offload_activations, offload_optimizer, offload_parameters, batch=offload_batch
    )


def _groups(pp: int, stages_per_device: int, placement: str) -> list[int]:
    """Per stage: which of `pp` groups of devices runs it."""
    there = list(range(pp))
    if placement == FREE or (stages_per_device == 1 and placement in ("", "linear")):
        return there
    if placement == BIDIRECTIONAL and stages_per_device == 1 and pp % 2 == 0:
        return there
    if placement in ("", "looped"):
        return there * stages_per_device
    if placement == "v" and stages_per_device == 2:
        return there + there[::-1]
    raise PlanError(
        "hybrid: expected placement linear (1 stage a device), looped, v (2 stages a device), free "
        f"or bidirectional (1 stage a device, pp even), found {placement!r} with "
        f"{stages_per_device} and pp={pp}"
    )


def order_of(order: str, microbatches: int) -> str:
    """The order; "none" for one that does nothing to a single microbatch: F, then B."""
    return "none" if microbatches == 1 and order in FUSED_ORDERS else order

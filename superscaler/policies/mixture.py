"""Data, tensor and pipeline parallelism and ZeRO in one plan, for the policies that are such."""

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
from superscaler.policies.check import check_pipeline, check_tensor_parallel

BIDIRECTIONAL = "bidirectional"
FREE = "free"


def mixture(
    policy: str,
    *,
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
) -> Plan:
    """The plan of `hybrid`, for every policy that is a case of it; errors name `policy`."""
    sizes = {"dp": dp, "tp": tp, "pp": pp, "stages_per_device": stages_per_device}
    check_pipeline(policy, microbatches, order, **sizes)
    if sequence_parallel:
        check_tensor_parallel(policy, tp)
    if placement == FREE and order != "auto":
        raise PlanError(
            f"{policy}: placement {FREE} is decided with the order; expected order='auto', found "
            f"{order!r}"
        )
    count, placement = _placement(pp, order, stages_per_device, placement)
    mesh = mesh_of(way=2 if placement == BIDIRECTIONAL else 1, dp=dp, tp=tp)
    splits = [*splits_of(mesh), *([PlanSplit("sequence", "tp")] if sequence_parallel else [])]
    most = max(count, PlanSchedule.stages_per_device)
    search = PlanSchedule(placement=FREE, stages_per_device=most)
    return Plan(
        _stages(_groups(policy, pp, count, placement), mesh, dp * tp),
        microbatches,
        tuple(splits),
        order_of(order, microbatches),
        tuple(recompute.split()),
        optimizer_of(policy, zero, mesh),
        schedule=search if placement == FREE else PlanSchedule(),
    )


def _placement(pp: int, order: str, stages_per_device: int, placement: str) -> tuple[int, str]:
    """Stages a device and placement, those that the order needs where nothing else is asked for."""
    if order in LOOPED_ORDERS and pp > 1:
        stages_per_device = max(2, stages_per_device)
    if order in V_ORDERS and not placement:
        return max(2, stages_per_device), "v"
    if order in TWO_WAY_ORDERS:
        placement = placement or BIDIRECTIONAL
    return stages_per_device, placement


def _groups(policy: str, pp: int, stages_per_device: int, placement: str) -> list[int]:
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
    if placement == BIDIRECTIONAL:
        raise PlanError(
            f"{policy}: both directions at once take an even pp, with 1 stage a device; found "
            f"pp={pp} with {stages_per_device}"
        )
    raise PlanError(
        f"{policy}: expected placement linear (1 stage a device), looped, v (2 stages a device), "
        f"free or bidirectional (1 stage a device, pp even), found {placement!r} with "
        f"{stages_per_device} and pp={pp}"
    )


def _stages(groups: list[int], mesh: dict[str, int], width: int) -> tuple[PlanStage, ...]:
    """A stage for each entry, on that group of `width` devices; where a mesh has two ways also on
    the group of the stage that is as far from the end."""
    ways = [groups, groups[::-1]] if "way" in mesh else [groups]
    return tuple(
        PlanStage(tuple(group * width + i for group in at for i in range(width)), mesh)
        for at in zip(*ways)
    )


def optimizer_of(policy: str, zero: int, mesh: dict[str, int]) -> PlanOptimizer:
    """What a ZeRO stage shards over the first of the mesh dims that have copies."""
    if zero not in (0, 1, 2, 3):
        raise PlanError(f"{policy}: expected a ZeRO stage from 0 to 3, found {zero}")
    copies = [dim for dim in ("dp", "way") if dim in mesh]
    if not zero or not copies:
        return PlanOptimizer()
    return PlanOptimizer(
        copies[0], "use" if zero == 3 else "step", "microbatch" if zero >= 2 else "step"
    )


def mesh_of(**sizes: int) -> dict[str, int]:
    """The dims that have more than one part."""
    return {name: size for name, size in sizes.items() if size > 1}


def splits_of(mesh: dict[str, int]) -> tuple[PlanSplit, ...]:
    """The batch over both ways of a pipeline and over replicas, products over tp."""
    axes = {"way": "batch", "dp": "batch", "tp": "auto"}
    return tuple(PlanSplit(axis, dim) for dim, axis in axes.items() if dim in mesh)


def order_of(order: str, microbatches: int) -> str:
    """The order; "none" for one that does nothing to a single microbatch: F, then B."""
    return "none" if microbatches == 1 and order in FUSED_ORDERS else order

"""The forms of parallelism everybody uses: splits, placements and orders, nothing else."""

from __future__ import annotations

from superscaler.errors import PlanError
from superscaler.plan import Plan
from superscaler.policies.check import policy
from superscaler.policies.mixture import mixture
from superscaler.policies.offload import offload


@policy
def data_parallel(dp: int) -> Plan:
    """Replicas of the model, each on its part of the batch."""
    return mixture("data_parallel", dp=dp)


@policy
def zero(dp: int, stage: int = 1) -> Plan:
    """Data parallelism with optimizer states (1), gradients (2) and parameters (3) sharded.

    Source: ZeRO, arXiv 1910.02054, section 5.
    """
    if stage not in (1, 2, 3):
        raise PlanError(f"zero: expected stage 1, 2 or 3, found {stage}; see data_parallel")
    return mixture("zero", dp=dp, zero=stage)


@policy
def megatron(tp: int, sequence_parallel: bool = False) -> Plan:
    """Tensor parallelism on the axes worth splitting; `sequence_parallel` splits tokens elsewhere.

    Source: Megatron-LM, arXiv 1909.08053; sequence parallelism: arXiv 2205.05198.
    """
    return mixture("megatron", tp=tp, sequence_parallel=sequence_parallel)


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
    return mixture(
        "pipeline",
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
    plan = mixture(
        "hybrid",
        dp=dp,
        tp=tp,
        pp=pp,
        zero=zero,
        microbatches=microbatches,
        order=order,
        sequence_parallel=sequence_parallel,
        recompute=recompute,
        stages_per_device=stages_per_device,
        placement=placement,
    )
    return offload(
        plan, offload_activations, offload_optimizer, offload_parameters, batch=offload_batch
    )

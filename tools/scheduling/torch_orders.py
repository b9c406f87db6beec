"""The orders of torch.distributed.pipelining's own schedule classes; tried with torch 2.13.

Their constructors want stages that can run. What they compute of an order depends on a few numbers
only, so the private methods that compute it are called on objects that have just these.
"""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from torch.distributed.pipelining import schedules

from superscaler.schedule.orders import Action, PipelineOrder
from superscaler.schedule.problem import Kind

KINDS = {
    "FORWARD": Kind.FORWARD,
    "BACKWARD_INPUT": Kind.BACKWARD,
    "BACKWARD_WEIGHT": Kind.WEIGHT,
    "FULL_BACKWARD": Kind.FUSED,
}
FORMS = {
    "ScheduleGPipe": "linear",
    "Schedule1F1B": "linear",
    "ScheduleInterleaved1F1B": "looped",
    "ScheduleLoopedBFS": "looped",
    "ScheduleInterleavedZeroBubble": "looped",
    "ScheduleZBVZeroBubble": "v",
    "ScheduleDualPipeV": "v",
}


def torch_order(name: str, devices: int, microbatches: int) -> PipelineOrder | None:
    """What the class makes of these numbers; None where it refuses them."""
    try:
        lines = _lines(getattr(schedules, name), devices, microbatches)
    except (ValueError, RuntimeError):  # as it tells a user that it wants other numbers
        return None
    return PipelineOrder(name.removeprefix("Schedule"), tuple(tuple(_actions(r)) for r in lines))


def _lines(kind: Any, devices: int, microbatches: int) -> list[list[Any]]:
    """Every rank's actions; any rank computes all of them."""
    stages = 1 if FORMS[kind.__name__] == "linear" else 2
    local = [_stage(devices, stages, i) for i in range(stages)]
    made = kind(local[0] if stages == 1 else local, microbatches)
    order = made.pipeline_order if stages == 2 else made._get_pipeline_order()
    return [order[rank] for rank in range(devices)]


def _stage(devices: int, stages: int, i: int) -> SimpleNamespace:
    return SimpleNamespace(
        group_size=devices,
        group_rank=0,
        num_stages=devices * stages,
        stage_index=i * devices,
        is_first=i == 0,
        is_last=devices * stages == 1,
        submod=None,
        has_backward=True,
        stage_index_to_group_rank={},
        group=None,
        device="cpu",
    )


def _actions(row: list[Any]) -> list[Action]:
    """Actions by our names. Schedule1F1B of torch 2.13 numbers the last rank's forwards from 1: a
    first forward of 1 counts as 0."""
    found: list[Action] = []
    for action in row:
        if action is None:
            continue
        for one in action.sub_actions or (action,):
            kind = KINDS.get(one.computation_type.name)
            if kind is not None:
                found.append(Action(kind, one.stage_index, one.microbatch_index))
    forwards = {a.microbatch for a in found if a.kind is Kind.FORWARD}
    shift = int(0 not in forwards)
    return [
        replace(a, microbatch=a.microbatch - shift) if a.kind is Kind.FORWARD else a for a in found
    ]

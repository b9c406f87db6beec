"""Sequences: a plan's order as the macro tasks (label, microbatch) that each device runs in turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

from superscaler.errors import ScheduleError
from superscaler.schedule.orders.known import (
    breadth_first,
    gpipe,
    interleaved,
    one_f_one_b,
    zb_h1,
    zb_h2,
)
from superscaler.schedule.orders.order import Action, PipelineOrder, parse_order
from superscaler.schedule.orders.v_shape import v_half, v_min, zb_v
from superscaler.schedule.problem import Kind

Macros = tuple[tuple[str, int], ...]

ORDERS: dict[str, Callable[[Sequence[int], int], PipelineOrder]] = {
    "gpipe": gpipe,
    "1f1b": one_f_one_b,
    "interleaved": interleaved,
    "breadth_first": breadth_first,
    "zb_h1": zb_h1,
    "zb_h2": zb_h2,
    "zb_v": zb_v,
    "v_half": v_half,
    "v_min": v_min,
}
OPEN = ("none", "auto")  # orders that leave it to the scheduler
LABELS = {
    Kind.FORWARD: ("forward",),
    Kind.BACKWARD: ("backward",),
    Kind.WEIGHT: ("weight",),
    Kind.FUSED: ("backward", "weight"),
}


def sequences(
    order: str, stage_devices: Sequence[tuple[int, ...]], microbatches: int
) -> tuple[Macros, ...]:
    """A sequence for each group of devices: `order` is a name or a text (see `parse_order`);
    `stage_devices` are those of each stage. () where the order is left open.

    Raises ScheduleError for an order that does not fit the stages, or is incomplete.
    """
    if order in OPEN or microbatches == 1:
        return ()
    groups = _groups(stage_devices)
    if order in ORDERS:
        made = ORDERS[order](groups, microbatches)
    else:
        made = parse_order(order)
        _check(made, groups, microbatches)
    return tuple(_macros(line) for line in made.lines)


def _groups(stage_devices: Sequence[tuple[int, ...]]) -> list[int]:
    """Per stage: the number of its group of devices."""
    numbers: dict[tuple[int, ...], int] = {}
    return [numbers.setdefault(tuple(sorted(d)), len(numbers)) for d in stage_devices]


def _macros(line: tuple[Action, ...]) -> Macros:
    return tuple((f"{label}_{a.stage}", a.microbatch) for a in line for label in LABELS[a.kind])


def _check(order: PipelineOrder, groups: Sequence[int], microbatches: int) -> None:
    """Every stage runs F and B, W or BW on every microbatch, on the line of its devices."""
    line_of: dict[int, int] = {}
    seen: dict[tuple[int, int], set[Kind]] = {}
    for number, line in enumerate(order.lines, 1):
        for action in line:
            if action.stage >= len(groups) or action.microbatch >= microbatches or action.chain:
                raise ScheduleError(
                    f"order, line {number}: there is no {action}; the plan has stages 0 to "
                    f"{len(groups) - 1} and microbatches 0 to {microbatches - 1}"
                )
            if line_of.setdefault(groups[action.stage], number) != number:
                raise ScheduleError(
                    f"order, line {number}: {action} runs on the devices of line "
                    f"{line_of[groups[action.stage]]}; put the tasks of one device on one line"
                )
            seen.setdefault((action.stage, action.microbatch), set()).add(action.kind)
    for stage, m in product(range(len(groups)), range(microbatches)):
        _check_kinds(stage, m, seen.get((stage, m), set()))


def _check_kinds(stage: int, m: int, kinds: set[Kind]) -> None:
    """F, and BW or W (with B, unless no other stage waits for this one)."""
    backward = kinds - {Kind.FORWARD}
    allowed = ({Kind.FUSED}, {Kind.BACKWARD, Kind.WEIGHT}, {Kind.WEIGHT})
    if Kind.FORWARD not in kinds:
        raise ScheduleError(f"order: F{stage}.{m} is missing; give every task once")
    if backward not in allowed:
        found = " and ".join(f"{k}{stage}.{m}" for k in sorted(backward)) or "neither"
        raise ScheduleError(
            f"order: expected BW{stage}.{m}, or B{stage}.{m} and W{stage}.{m}, found {found}"
        )

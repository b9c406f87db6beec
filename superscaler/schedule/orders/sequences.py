"""Sequences: a plan's order as the macro tasks (label, microbatch) that devices run in turn."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

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
    order: str,
    stage_devices: Sequence[tuple[int, ...]],
    microbatches: int,
    labels: Collection[str] | None = None,
) -> tuple[Macros, ...]:
    """A sequence for each group of devices: `order` is a name or a text (see `parse_order`);
    `stage_devices` are those of each stage, `labels` those of the program's operators (None: not
    known yet). () where the order is left open.

    Raises ScheduleError for an order that does not fit the stages. That it has every task is
    checked where the tasks are made (`schedule.macros`).
    """
    if order in OPEN or (order in ORDERS and microbatches == 1):
        return ()
    groups = _groups(stage_devices)
    if order in ORDERS:
        made = ORDERS[order](groups, microbatches)
    else:
        made = parse_order(order)
        _check(made, groups, microbatches)
    if not any(label.startswith("weight_") for label in labels or ("weight_",)):
        _check_fused(made)
    return tuple(_macros(line) for line in made.lines)


def _groups(stage_devices: Sequence[tuple[int, ...]]) -> list[int]:
    """Per stage: the number of its group of devices."""
    numbers: dict[tuple[int, ...], int] = {}
    return [numbers.setdefault(tuple(sorted(d)), len(numbers)) for d in stage_devices]


def _macros(line: tuple[Action, ...]) -> Macros:
    return tuple((f"{label}_{a.stage}", a.microbatch) for a in line for label in LABELS[a.kind])


def _check(order: PipelineOrder, groups: Sequence[int], microbatches: int) -> None:
    """Every action exists, is there once, and is on the line of its devices."""
    line_of: dict[int, int] = {}
    given: dict[tuple[str, int], Action] = {}
    for number, line in enumerate(order.lines, 1):
        for action in line:
            _check_action(action, number, len(groups), microbatches)
            if line_of.setdefault(groups[action.stage], number) != number:
                raise ScheduleError(
                    f"order, line {number}: {action} runs on the devices of line "
                    f"{line_of[groups[action.stage]]}; put the tasks of one device on one line"
                )
            for macro in _macros((action,)):
                other = given.setdefault(macro, action)
                if other is not action:
                    raise ScheduleError(
                        f"order, line {number}: {action} repeats work of {other}; give every task "
                        "once"
                    )


def _check_action(action: Action, line: int, stages: int, microbatches: int) -> None:
    if action.chain:
        raise ScheduleError(
            f"order, line {line}: {action} takes a second way through the devices, with parameters "
            "of its own; a plan has one copy of each: leave the marks out, and give each stage one "
            "place"
        )
    if action.stage >= stages or action.microbatch >= microbatches:
        raise ScheduleError(
            f"order, line {line}: there is no {action}; the plan has stages 0 to {stages - 1} and "
            f"microbatches 0 to {microbatches - 1}"
        )


def _check_fused(order: PipelineOrder) -> None:
    """No W where all backward work of a stage and microbatch is one task."""
    for number, line in enumerate(order.lines, 1):
        for action in line:
            if action.kind is Kind.WEIGHT:
                raise ScheduleError(
                    f"order, line {number}: there is no {action}, since the plan has "
                    "backward: fused; leave that out, or use an order without W"
                )

"""Sequences: a plan's order as the macro tasks (label, microbatch) that devices run in turn."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
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
    order: str,
    stage_devices: Sequence[tuple[int, ...]],
    microbatches: int,
    labels: Collection[str] | None = None,
) -> tuple[Macros, ...]:
    """A sequence for each group of devices: `order` is a name or a text (see `parse_order`);
    `stage_devices` are those of each stage, `labels` those that the program's tasks have (None: all
    that an order may name). () where the order is left open.

    Raises ScheduleError for an order that does not fit the stages, or is incomplete.
    """
    if order in OPEN or (order in ORDERS and microbatches == 1):
        return ()
    groups = _groups(stage_devices)
    if order in ORDERS:
        made = ORDERS[order](groups, microbatches)
    else:
        made = parse_order(order)
        _check(made, groups, microbatches)
    if labels is not None:
        _check_labels(made, labels)
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
            _check_action(action, number, len(groups), microbatches)
            if line_of.setdefault(groups[action.stage], number) != number:
                raise ScheduleError(
                    f"order, line {number}: {action} runs on the devices of line "
                    f"{line_of[groups[action.stage]]}; put the tasks of one device on one line"
                )
            seen.setdefault((action.stage, action.microbatch), set()).add(action.kind)
    for stage, m in product(range(len(groups)), range(microbatches)):
        _check_kinds(stage, m, seen.get((stage, m), set()))


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


def _check_labels(order: PipelineOrder, labels: Collection[str]) -> None:
    """B is there wherever another stage waits for a stage's backward; W only where it is apart."""
    given = {macro for line in order.lines for macro in _macros(line)}
    is_split = any(label.startswith("weight_") for label in labels)
    for number, line in enumerate(order.lines, 1):
        for action in line:
            stage, m = action.stage, action.microbatch
            if action.kind is not Kind.WEIGHT or f"backward_{stage}" not in labels:
                continue
            if not is_split:
                raise ScheduleError(
                    f"order {order.name}, line {number}: there is no {action}, since all backward "
                    f"work of stage {stage} is one task; write BW{stage}.{m}, or give the plan "
                    "backward: split"
                )
            if (f"backward_{stage}", m) not in given:
                raise ScheduleError(
                    f"order {order.name}, line {number}: {action} without B{stage}.{m}, for which "
                    f"another stage waits; add B{stage}.{m}, or write BW{stage}.{m}"
                )

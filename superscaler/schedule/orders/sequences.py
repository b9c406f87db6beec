"""Sequences: a plan's order as the macro tasks (label, microbatch) that devices run in turn."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from superscaler.errors import ScheduleError
from superscaler.schedule.orders.ahead import nf1b
from superscaler.schedule.orders.known import (
    breadth_first,
    gpipe,
    interleaved,
    one_f_one_b,
    zb_h1,
    zb_h2,
)
from superscaler.schedule.orders.order import Action, PipelineOrder, parse_order
from superscaler.schedule.orders.two_way import TWO_WAY, folded
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
KNOWN = {**ORDERS, **{name: folded(make) for name, make in TWO_WAY.items()}}  # of plans
NF1B = "nf1b"
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
    is_fused: bool = False,
) -> tuple[Macros, ...]:
    """A sequence for each group of devices: `order` is a name or a text (see `parse_order`);
    `stage_devices` are those of each stage, `labels` those of the program's operators (None: not
    known yet), `is_fused` says that the plan wants no W. () where the order is left open.

    Known orders are by rule: they have the W of stages that have none, which is never run.

    Raises ScheduleError for an order that does not fit the stages. That it has every task is
    checked where the tasks are made (`schedule.macros`).
    """
    if order in OPEN or (order in (*KNOWN, NF1B) and microbatches == 1):
        return ()
    known = labels or [f"backward_{s}" for s in range(len(stage_devices))]
    lanes = _lanes(stage_devices)
    if order == NF1B:
        returning = {_stage(label) for label in known if label.startswith(("backward", "weight"))}
        made = nf1b(lanes, microbatches, returning)
    elif order in KNOWN:
        made = KNOWN[order](_groups(stage_devices), microbatches)
    else:
        made = parse_order(order)
        _check(made, lanes, microbatches)
        if is_fused:
            _check_fused(made)
    return tuple(_macros(line) for line in made.lines)


def _groups(stage_devices: Sequence[tuple[int, ...]]) -> list[int]:
    """Per stage: the number of its group of devices."""
    numbers: dict[tuple[int, ...], int] = {}
    return [numbers.setdefault(tuple(sorted(d)), len(numbers)) for d in stage_devices]


def _lanes(stage_devices: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Per stage: the lanes it runs on. Devices that run the same stages are one lane."""
    runs: dict[int, list[int]] = {}
    for stage, devices in enumerate(stage_devices):
        for d in devices:
            runs.setdefault(d, []).append(stage)
    numbers: dict[tuple[int, ...], int] = {}
    lane = {d: numbers.setdefault(tuple(runs[d]), len(numbers)) for d in sorted(runs)}
    return [tuple(sorted({lane[d] for d in devices})) for devices in stage_devices]


def _stage(label: str) -> int:
    return int(label.rpartition("_")[2])


def _macros(line: tuple[Action, ...]) -> Macros:
    return tuple((f"{label}_{a.stage}", a.microbatch) for a in line for label in LABELS[a.kind])


def _check(order: PipelineOrder, lanes: Sequence[tuple[int, ...]], microbatches: int) -> None:
    """Every action exists, is there once, and is on the line of each of its lanes."""
    line_of: dict[int, int] = {}
    given: dict[tuple[int, str, int], Action] = {}
    for number, line in enumerate(order.lines, 1):
        for action in line:
            _check_action(action, number, len(lanes), microbatches)
        for lane in _own_lanes(line, lanes) if line else ():
            line_of.setdefault(lane, number)
    for number, line in enumerate(order.lines, 1):
        for action in line:
            own = [line_of.get(lane, number) for lane in lanes[action.stage]]
            if number not in own:
                raise ScheduleError(
                    f"order, line {number}: {action} runs on the devices of line {own[0]}; put the "
                    "tasks of one device on one line"
                )
            for macro in _macros((action,)):
                other = given.setdefault((number, *macro), action)
                if other is not action:
                    raise ScheduleError(
                        f"order, line {number}: {action} repeats work of {other}; give every task "
                        "once"
                    )


def _own_lanes(line: tuple[Action, ...], lanes: Sequence[tuple[int, ...]]) -> list[int]:
    """The lane that runs the stages of a line and no others, else the first that runs them all, or
    the first action."""
    stages = {a.stage for a in line}
    every = sorted({lane for group in lanes for lane in group})
    shared = [lane for lane in every if all(lane in lanes[s] for s in stages)]
    exact = [lane for lane in shared if sum(lane in group for group in lanes) == len(stages)]
    return exact or shared[:1] or list(lanes[line[0].stage][:1])


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

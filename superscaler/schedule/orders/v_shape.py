"""V-shaped orders: two stages a device, there and back, so that activations even out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from superscaler.errors import ScheduleError
from superscaler.schedule.orders.order import Action, PipelineOrder
from superscaler.schedule.problem import Kind

Line = tuple[Action, ...]
INTERVAL = 6  # passes of unit time that a device has for each microbatch: F, B, W of two stages


def zb_v(devices: Sequence[int], microbatches: int) -> PipelineOrder:
    """Zero bubble with the memory of 1F1B. Source: arXiv 2401.10241, section 6.

    >>> print(zb_v([0, 0], 1))
    F0.0 F1.0 B1.0 W1.0 B0.0 W0.0
    """
    count = _v("zb_v", devices)
    lines: list[Line] = [()] * count
    for position in range(count):
        enough = max(microbatches, 2 * count - 1)  # what the warm-up is made of
        line = _zb_v_line(position, count, enough)
        lines[devices[position]] = tuple(a for a in line if a.microbatch < microbatches)
    return PipelineOrder("zb_v", tuple(lines))


def v_half(devices: Sequence[int], microbatches: int) -> PipelineOrder:
    """About half of 1F1B's memory. Source: Pipeline Parallelism with Controllable Memory,
    arXiv 2405.15362, section 3."""
    count = _v("v_half", devices)
    gap = 3 if count % 2 == 0 else 0
    offsets = [
        (2 * i, 3 * count - i - 2, 3 * count + gap + 2 * i - 1, 6 * count + gap - i - 2)
        for i in range(count)
    ]
    return _repeated("v_half", devices, offsets, microbatches)


def v_min(devices: Sequence[int], microbatches: int) -> PipelineOrder:
    """About a third of 1F1B's memory. Source: arXiv 2405.15362, section 3."""
    count = _v("v_min", devices)
    gap = 2 if count % 3 == 0 else 0
    offsets = [
        (i, 2 * count - i - 1, 2 * count + gap + i, 4 * count + gap - i - 1) for i in range(count)
    ]
    return _repeated("v_min", devices, offsets, microbatches)


def _v(name: str, devices: Sequence[int]) -> int:
    """How many devices a V has. Raises ScheduleError for any other placement."""
    half = len(devices) // 2
    down = list(devices[:half])
    if not down or sorted(down) != list(range(half)) or list(devices[half:]) != down[::-1]:
        raise ScheduleError(
            f"order {name}: expected two stages on each device, placed in V form as 0 1 1 0, found "
            f"{list(devices)}"
        )
    return half


def _zb_v_line(position: int, count: int, microbatches: int) -> Iterator[Action]:
    """Warm-up; then F, B and W of either stage in turn; W's put off to the end."""
    stages = (position, 2 * count - 1 - position)
    done = {(kind, s): 0 for kind in "FBW" for s in stages}

    def act(kind: str, chunk: int) -> Action:
        number = done[kind, stages[chunk]]
        done[kind, stages[chunk]] += 1
        return Action(Kind(kind), stages[chunk], number)

    yield from (act("F", 0) for _ in range(2 * (count - position) - 1))
    for _ in range(position):
        yield from (act("F", 1), act("F", 0))
    for _ in range(count - position):
        yield from (act("F", 1), act("B", 1), act("W", 1))
    while done["F", stages[1]] < microbatches:
        if done["F", stages[0]] < microbatches:
            yield act("F", 0)
        yield from (act("B", 0), act("W", 0), act("F", 1), act("B", 1), act("W", 1))
    for _ in range(position):
        yield from (act("B", 0), act("B", 1))
    for _ in range(count - position):
        yield from (act("B", 0), act("W", 0))
    for chunk in (1, 0):
        while done["W", stages[chunk]] < microbatches:
            yield act("W", chunk)


def _repeated(
    name: str, devices: Sequence[int], offsets: Sequence[tuple[int, ...]], microbatches: int
) -> PipelineOrder:
    """A building block, repeated for every microbatch, with W's in what it leaves free.

    `offsets`: per position, the times of F there, F back, B back and B there, in passes.
    """
    count = len(offsets)
    lines: list[Line] = [()] * count
    for position, times in enumerate(offsets):
        there, back = position, 2 * count - 1 - position
        forward, backward = Kind.FORWARD, Kind.BACKWARD
        passes = ((forward, there), (forward, back), (backward, back), (backward, there))
        at = {
            time + INTERVAL * m: Action(kind, stage, m)
            for time, (kind, stage) in zip(times, passes)
            for m in range(microbatches)
        }
        lines[devices[position]] = tuple(_with_weights(at))
    return PipelineOrder(name, tuple(lines))


def _with_weights(at: dict[int, Action]) -> Iterator[Action]:
    """Actions by time, with a W that is due wherever there is none."""
    due: list[Action] = []
    for time in range(max(at) + 1):
        if time in at:
            action = at[time]
            yield action
            if action.kind is Kind.BACKWARD:
                due.append(Action(Kind.WEIGHT, action.stage, action.microbatch))
        elif due:
            yield due.pop(0)
    yield from due

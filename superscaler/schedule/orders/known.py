"""Known orders for stages on devices, each line by rule; costs play no part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain as joined

from superscaler.errors import ScheduleError
from superscaler.schedule.orders.order import Action, PipelineOrder
from superscaler.schedule.problem import Kind

Line = tuple[Action, ...]


def gpipe(devices: Sequence[int], microbatches: int) -> PipelineOrder:
    """All forwards, then all backwards (arXiv 1811.06965). `devices[s]` runs stage s.

    >>> print(gpipe([0, 1], 2))
    F0.0 F0.1 BW0.0 BW0.1
    F1.0 F1.1 BW1.0 BW1.1
    """
    lines = []
    for stages in _by_device(devices):
        ahead = [_act("F", s, m) for s in stages for m in range(microbatches)]
        back = [_act("BW", s, m) for s in reversed(stages) for m in range(microbatches)]
        lines.append((*ahead, *back))
    return PipelineOrder("gpipe", tuple(lines))


def breadth_first(devices: Sequence[int], microbatches: int) -> PipelineOrder:
    """Several stages a device, each with all microbatches before the next (arXiv 2211.05953)."""
    return PipelineOrder("breadth_first", gpipe(devices, microbatches).lines)


def one_f_one_b(devices: Sequence[int], microbatches: int) -> PipelineOrder:
    """PipeDream-flush: as many forwards ahead as later stages need, then one backward each.

    >>> print(one_f_one_b([0, 1], 2))
    F0.0 F0.1 BW0.0 BW0.1
    F1.0 BW1.0 F1.1 BW1.1
    """
    _one_stage_each("1f1b", devices)
    stages = len(devices)
    lines: list[Line] = [()] * stages
    for s, device in enumerate(devices):
        line = _alternating(s, min(stages - s, microbatches), microbatches)
        lines[device] = tuple(line)
    return PipelineOrder("1f1b", tuple(lines))


def _alternating(stage: int, ahead: int, microbatches: int) -> Iterator[Action]:
    yield from (_act("F", stage, m) for m in range(ahead))
    for m in range(microbatches):
        yield _act("BW", stage, m)
        if m + ahead < microbatches:
            yield _act("F", stage, m + ahead)


def zero_bubble(
    devices: Sequence[int], microbatches: int, held: int, ahead: int, name: str
) -> PipelineOrder:
    """1F1B with the weight gradients put off: stage s runs up to `ahead` more forwards ahead for
    each later stage (as 1F1B with 1), and keeps at most `held` activations.

    Source: Zero Bubble Pipeline Parallelism, arXiv 2401.10241, section 2 (H1: held = number of
    stages, ahead 1; H2: held = twice that less 1, ahead 2).
    """
    _one_stage_each(name, devices)
    stages = len(devices)
    lines: list[Line] = [()] * stages
    for s, device in enumerate(devices):
        warm = max(1, min(ahead * (stages - s) - (ahead - 1), held, microbatches))
        lines[device] = tuple(_put_off(s, warm, held - warm, microbatches))
    return PipelineOrder(name, tuple(lines))


def _put_off(stage: int, ahead: int, late: int, microbatches: int) -> Iterator[Action]:
    """`ahead` forwards, then B and F in turn; a W as soon as more than `late` are due."""
    yield from (_act("F", stage, m) for m in range(ahead))
    done = 0
    for m in range(microbatches):
        yield _act("B", stage, m)
        more = m + ahead < microbatches
        if m + 1 - done > late or not more:
            yield _act("W", stage, done)
            done += 1
        if more:
            yield _act("F", stage, m + ahead)
    yield from (_act("W", stage, m) for m in range(done, microbatches))


def zb_h1(devices: Sequence[int], microbatches: int) -> PipelineOrder:
    """Zero bubble with the memory of 1F1B."""
    return zero_bubble(devices, microbatches, len(devices), 1, "zb_h1")


def zb_h2(devices: Sequence[int], microbatches: int) -> PipelineOrder:
    """Zero bubble with about twice the memory of 1F1B."""
    return zero_bubble(devices, microbatches, 2 * len(devices) - 1, 2, "zb_h2")


def interleaved(devices: Sequence[int], microbatches: int) -> PipelineOrder:
    """Interleaved 1F1B: looped stages, microbatches in groups of the number of devices.

    Source: Megatron-LM, arXiv 2104.04473, section 2.2. Raises ScheduleError unless stages are dealt
    to the devices in turn and the microbatches come out even.
    """
    count = max(devices) + 1
    if list(devices) != [s % count for s in range(len(devices))] or len(devices) % count:
        raise ScheduleError(
            "order interleaved: expected stages dealt to the devices in turn, found "
            f"{list(devices)}"
        )
    if microbatches % count:
        raise ScheduleError(
            f"order interleaved: {microbatches} microbatches are not divisible by {count} devices; "
            f"use {microbatches // count * count or count} or {-(-microbatches // count) * count}"
        )
    chunks = len(devices) // count
    return PipelineOrder(
        "interleaved",
        tuple(_interleaved_line(d, count, chunks, microbatches) for d in range(count)),
    )


def _interleaved_line(device: int, count: int, chunks: int, microbatches: int) -> Line:
    total = microbatches * chunks

    def at(i: int, backward: bool) -> tuple[int, int]:
        group, inside = divmod(i, count * chunks)
        chunk, m = divmod(inside, count)
        chunk = chunks - 1 - chunk if backward else chunk
        return chunk * count + device, group * count + m

    forwards = [_act("F", *at(i, False)) for i in range(total)]
    backwards = [_act("BW", *at(i, True)) for i in range(total)]
    warm = min(total, 2 * (count - device - 1) + (chunks - 1) * count)
    pairs = joined.from_iterable(zip(forwards[warm:], backwards))
    return (*forwards[:warm], *pairs, *backwards[total - warm :])


def _by_device(devices: Sequence[int]) -> list[list[int]]:
    """Per device: its stages."""
    found: list[list[int]] = [[] for _ in range(max(devices) + 1)]
    for stage, device in enumerate(devices):
        found[device].append(stage)
    return found


def _one_stage_each(name: str, devices: Sequence[int]) -> None:
    if sorted(devices) != list(range(len(devices))):
        raise ScheduleError(
            f"order {name}: expected one stage on each device, found {list(devices)}; for several "
            "use interleaved, breadth_first or zb_v"
        )


def _act(kind: str, stage: int, microbatch: int) -> Action:
    return Action(Kind(kind), stage, microbatch)

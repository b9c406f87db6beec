"""Bidirectional orders: even microbatches run down the devices, odd ones up, on two copies of each
parameter.

Made by a greedy scheduler on passes of equal length, with a quota per direction; microbatches that
run up are of chain 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

from superscaler.errors import ScheduleError
from superscaler.schedule.greedy import Rule, greedy
from superscaler.schedule.orders.order import Action, PipelineOrder
from superscaler.schedule.pipeline import Pipeline, Placement, StageCosts

Maker = Callable[[Sequence[int], int], PipelineOrder]


def chimera(devices: Sequence[int], microbatches: int) -> PipelineOrder:
    """1F1B in both directions at once, at most half as many activations of each direction on a
    device as there are devices (arXiv 2107.06925); B and W are one.

    `devices[s]` runs stage s of the direction down.

    >>> print(chimera([0, 1], 2))
    F0.0 F1.1'1 BW1.1'1 BW0.0
    F0.1'1 F1.0 BW1.0 BW0.1'1
    """
    most = max(1, (len(devices) + 1) // 2)
    return _made("chimera", devices, microbatches, Rule(Fraction(1), most=most), True)


def dualpipe(devices: Sequence[int], microbatches: int) -> PipelineOrder:
    """Both directions with B and W apart, one activation more than there are devices on each
    (as DualPipe, arXiv 2412.19437, section 3.2.1, without the overlap inside of passes)."""
    return _made("dualpipe", devices, microbatches, Rule(Fraction(1)), False)


def _made(
    name: str, devices: Sequence[int], microbatches: int, rule: Rule, is_fused: bool
) -> PipelineOrder:
    count = len(devices)
    if sorted(devices) != list(range(count)):
        raise ScheduleError(
            f"order {name}: expected one stage of each direction on each device, found "
            f"{list(devices)}"
        )
    placement = Placement.bidirectional(count, microbatches)
    costs = StageCosts.uniform(count, (2, 2, 2))
    pipeline = Pipeline(placement, costs, capacity=count + 1, is_fused=is_fused)
    start = greedy(pipeline.problem, rule)
    assert start is not None, "the quotas of both directions are within the memory"
    works = pipeline.problem.works
    lines: list[tuple[Action, ...]] = [()] * count
    for position, numbers in enumerate(pipeline.problem.on_lane):
        in_turn = [works[w] for w in sorted(numbers, key=start.__getitem__)]
        line = (Action(w.kind, w.stage, w.microbatch, w.chain) for w in in_turn)
        lines[devices[position]] = tuple(line)
    return PipelineOrder(name, tuple(lines))


def folded(make: Maker) -> Maker:
    """The order for programs in which each task runs on both copies at once: stage s of S on device
    s for the way down, on device S - 1 - s for the way up. The ways mirror each other, so a line
    stands for a device and its mirror image; `devices` are these groups, there and back.

    >>> print(folded(chimera)([0, 0], 2))
    F0.0 F1.0 BW1.0 BW0.0 F0.1 F1.1 BW1.1 BW0.1
    """

    def made(devices: Sequence[int], microbatches: int) -> PipelineOrder:
        half = len(devices) // 2
        if list(devices) != [*range(half), *range(half - 1, -1, -1)]:
            raise ScheduleError(
                f"order {make.__name__}: expected stages s and S - 1 - s on the same devices, one "
                f"copy of each there (placement bidirectional), found groups {list(devices)}"
            )
        whole = make(range(len(devices)), 2 * microbatches)
        lines = [
            tuple(Action(a.kind, a.stage, a.microbatch // 2) for a in line)
            for line in whole.lines[:half]
        ]
        return PipelineOrder(whole.name, tuple(lines))

    return made


TWO_WAY: dict[str, Maker] = {
    "chimera": chimera,
    "dualpipe": dualpipe,
}

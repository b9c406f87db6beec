"""NF1B: backwards as soon as they can be, forwards as far ahead as later stages need, for stages of
any devices: several forwards to one backward, and stages that share some of their devices."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from fractions import Fraction

from superscaler.errors import ScheduleError
from superscaler.schedule.greedy import Rule, greedy
from superscaler.schedule.orders.order import Action, PipelineOrder
from superscaler.schedule.problem import Edge, Kind, Lane, Problem, Work


def nf1b(
    lanes: Sequence[tuple[int, ...]], microbatches: int, returning: Collection[int]
) -> PipelineOrder:
    """An order for stages of which the s-th runs on the lanes `lanes[s]` together; only stages in
    `returning` have a backward. A line for each lane.

    Stage s of S has at most S - s microbatches between forward and backward, as in 1F1B, which this
    is where every stage has a lane of its own. Source of the case of several forwards: SuperScaler,
    arXiv 2301.08984, section 2 (3F1B).

    >>> print(nf1b([(0,), (1,), (0,), (1,)], 2, (2, 3)))
    F0.0 F0.1 F2.0 F2.1 BW2.0 BW2.1
    F1.0 F1.1 F3.0 BW3.0 F3.1 BW3.1
    """
    problem = _problem(lanes, microbatches, sorted(returning))
    start = greedy(problem, Rule(Fraction(1)))
    if start is None:
        raise ScheduleError(
            f"order nf1b: stages on {[list(group) for group in lanes]} wait for each other; give "
            "the order as lines, or use auto"
        )
    lines = []
    for numbers in problem.on_lane:
        works = [problem.works[w] for w in sorted(numbers, key=lambda w: (start[w], w))]
        lines.append(tuple(Action(w.kind, w.stage, w.microbatch) for w in works))
    return PipelineOrder("nf1b", tuple(lines))


def _problem(
    lanes: Sequence[tuple[int, ...]], microbatches: int, returning: Sequence[int]
) -> Problem:
    """Every pass takes one tick; memory is left to the rule's quota."""
    works: list[Work] = []
    edges: list[Edge] = []
    for m in range(microbatches):
        forward = [(Kind.FORWARD, s) for s in range(len(lanes))]
        backward = [(Kind.FUSED, s) for s in reversed(returning)]
        for kind, stage in (*forward, *backward):
            if (kind, stage) != (Kind.FORWARD, 0):
                edges.append(Edge(len(works) - 1, len(works)))
            works.append(Work(f"{kind}{stage}.{m}", kind, stage, m, lanes[stage], 1))
    count = 1 + max(lane for group in lanes for lane in group)
    return Problem(tuple(Lane((lane,)) for lane in range(count)), tuple(works), tuple(edges))

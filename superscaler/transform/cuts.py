"""Cuts: where along the forward a stage begins: by cost, or as the plan says."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from difflib import get_close_matches
from itertools import accumulate

from superscaler.errors import PlanError
from superscaler.graph.axis import Axes
from superscaler.graph.graph import Graph
from superscaler.plan import PlanStage
from superscaler.transform.calls import SideBySide, side_by_side
from superscaler.transform.cost import cost

WINDOW = 0.25  # of a stage: how far a cut may move to cross fewer bytes
CHEAP = 1.5  # times the fewest bytes that cross anywhere in the window


def by_cost(graph: Graph, axes: Axes, forward: list[int], count: int) -> dict[int, int]:
    """Contiguous pieces of about equal cost, cut where few bytes cross; calls of one module that do
    not wait for each other run side by side (here and in all cuts)."""
    calls = side_by_side(graph, forward)
    forward, crossing = calls.order, _crossing_bytes(graph, calls)
    sums = _sums(graph, axes, forward)
    total = sums[-1]
    cuts: list[int] = []
    for k in range(1, count):
        target, reach = total * k / count, WINDOW * total / count
        low = max(bisect_right(sums, target - reach), (cuts[-1] if cuts else 0) + 1)
        near = [p for p in range(low, len(forward)) if sums[p] <= target + reach]
        if not near:
            near = [min(max(low, 1), len(forward) - 1)]
        cuts.append(min(near, key=lambda p: (crossing[p], abs(sums[p] - target))))
    return {op: bisect_right(cuts, i) for i, op in enumerate(forward)}


def by_first(graph: Graph, forward: list[int], stages: tuple[PlanStage, ...]) -> dict[int, int]:
    """Pieces that begin with the operators that the stages name.

    Raises PlanError for a stage without such a name, an unknown one, or one out of turn.
    """
    forward = side_by_side(graph, forward).order
    names = {graph.operators[op].name: i for i, op in enumerate(forward)}
    cuts: list[int] = []
    for number, stage in enumerate(stages):
        if stage.modules or (number and not stage.first):
            raise PlanError(
                f"stage {number}: expected `first` on every stage but stage 0, and `modules` on "
                "none, as another stage has `first`"
            )
        if not stage.first:
            continue
        if stage.first not in names:
            close = get_close_matches(stage.first, names, 3) or list(names)[:3]
            raise PlanError(
                f"stage {number}: no forward operator is named {stage.first}; "
                f"there are {', '.join(close)}, ..."
            )
        at = names[stage.first]
        if not number and at:
            raise PlanError(
                f"stage 0: {stage.first} is not the forward's first operator; leave `first` out: "
                "stage 0 has all that comes before stage 1"
            )
        if number and at <= (cuts[-1] if cuts else 0):
            raise PlanError(
                f"stage {number}: {stage.first} is not after the operator that stage "
                f"{number - 1} begins with; give the stages as the forward runs"
            )
        if number:
            cuts.append(at)
    return {op: bisect_right(cuts, i) for i, op in enumerate(forward)}


def cheap_cuts(
    graph: Graph, axes: Axes, forward: list[int], num_stages: int, most: int
) -> list[int]:
    """Operators that a stage might well begin with, so that there are `most` pieces at most: few
    bytes cross there, compared with what is near on the scale of `num_stages` equal stages."""
    calls = side_by_side(graph, forward)
    forward, crossing = calls.order, _crossing_bytes(graph, calls)
    sums = _sums(graph, axes, forward)
    reach = WINDOW * sums[-1] / num_stages
    found: list[int] = []
    done = 0.0
    for p in range(1, len(forward)):
        if sums[p] - done < sums[-1] / most or sums[p] == sums[-1]:
            continue
        low = max(bisect_left(sums, sums[p] - reach), 1)
        high = min(bisect_right(sums, sums[p] + reach), len(forward))
        if crossing[p] <= CHEAP * min(crossing[low:high]):
            found.append(forward[p])
            done = sums[p]
    return found


def _sums(graph: Graph, axes: Axes, forward: list[int]) -> list[float]:
    """Cost of what comes before each position in `forward`, and of all of it."""
    sums = [0.0]
    for op in forward:
        sums.append(sums[-1] + cost(graph, axes, op))
    return sums


def _crossing_bytes(graph: Graph, calls: SideBySide) -> list[int]:
    """Per position in the order: bytes of values made before it and read at or after it; and more
    than anywhere where a cut would part calls that share parameters."""
    position = {op: i for i, op in enumerate(calls.order)}
    change = [0] * (len(calls.order) + 2)
    for op in calls.order:
        for t in graph.operators[op].outputs:
            readers = [position[r] for r, _ in graph.consumers.get(t, ()) if r in position]
            if readers:
                change[position[op] + 1] += graph.tensors[t].num_bytes
                change[max(readers) + 1] -= graph.tensors[t].num_bytes
    crossing = list(accumulate(change))
    most, between = max(crossing), calls.between()
    return [here + most * (p in between) for p, here in enumerate(crossing)]

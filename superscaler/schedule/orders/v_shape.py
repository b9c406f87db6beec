"""V-shaped orders: two stages a device, there and back, so that activations even out."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from superscaler.errors import ScheduleError
from superscaler.schedule.greedy import Rule, greedy
from superscaler.schedule.orders.order import Action, PipelineOrder
from superscaler.schedule.pipeline import Placement, StageCosts, pipeline_problem
from superscaler.schedule.replay import lane_order


def zb_v(devices: Sequence[int], microbatches: int) -> PipelineOrder:
    """As many microbatches under way as 1F1B's memory holds. Source: arXiv 2401.10241, section 6."""
    return _even_costs("zb_v", devices, microbatches, Fraction(1))


def v_half(devices: Sequence[int], microbatches: int) -> PipelineOrder:
    """About half of 1F1B's memory. Source: Pipeline Parallelism with Controllable Memory,
    arXiv 2405.15362."""
    return _even_costs("v_half", devices, microbatches, Fraction(1, 2))


def v_min(devices: Sequence[int], microbatches: int) -> PipelineOrder:
    """About a third of 1F1B's memory. Source: arXiv 2405.15362."""
    return _even_costs("v_min", devices, microbatches, Fraction(1, 3))


def _even_costs(
    name: str, devices: Sequence[int], microbatches: int, ahead: Fraction
) -> PipelineOrder:
    """The order that a greedy schedule has when F, B and W of all stages take equal times and stage
    s of S may have `ahead` times S - s microbatches under way."""
    stages = len(devices)
    if stages % 2 or list(devices) != list(devices)[::-1]:
        raise ScheduleError(
            f"order {name}: expected two stages on each device, placed in V form as 0 1 1 0, found "
            f"{list(devices)}"
        )
    one = (1,) * stages
    costs = StageCosts(one, one, one, one, one)
    placement = Placement.of_stages(devices, microbatches)
    capacity = _capacity(placement.num_devices, ahead)
    problem = pipeline_problem(costs, placement, capacity=capacity)
    start = greedy(problem, Rule(ahead)) or greedy(problem, Rule(ahead / 2))
    if start is None:
        problem = pipeline_problem(costs, placement)
        start = greedy(problem, Rule(ahead))
    assert start is not None, "without a limit to memory a greedy schedule comes through"
    works = problem.works
    lines = tuple(
        tuple(Action(works[w].kind, works[w].stage, works[w].microbatch) for w in line)
        for line in lane_order(problem, start)
    )
    return PipelineOrder(name, lines)


def _capacity(num_devices: int, ahead: Fraction) -> int:
    """Half-stage activations: those of 1F1B, or what arXiv 2405.15362 finds for fewer ahead."""
    whole = 2 * num_devices
    return whole if ahead == 1 else int(whole * ahead) + 2

"""The portfolio: reference makespans of known orders, what applies where, both directions."""

import pytest

from superscaler.errors import ScheduleError
from superscaler.schedule.check import check
from superscaler.schedule.memory import fits, peaks
from superscaler.schedule.orders import TWO_WAY, Action, PipelineOrder, make_order, parse_order
from superscaler.schedule.pipeline import Placement, StageCosts, pipeline_problem
from superscaler.schedule.portfolio import actions_of, apply_order, portfolio
from superscaler.schedule.problem import Edge, Kind, Lane, Problem, Work

UNIT, REAL = ((20, 20, 20), 0), ((20, 22, 16), 1)
V_UNIT, V_REAL = ((10, 10, 10), 0), ((10, 11, 8), 1)
Costs = tuple[tuple[int, int, int], int]


@pytest.mark.parametrize(
    ("name", "devices", "microbatches", "costs", "expected"),
    [
        ("1f1b", 4, 8, UNIT, 33.0),
        ("1f1b", 8, 16, UNIT, 69.0),
        ("1f1b", 4, 8, REAL, 32.7),
        ("1f1b", 8, 16, REAL, 68.7),
        ("zb_h1", 4, 8, UNIT, 27.0),
        ("zb_h1", 8, 16, UNIT, 55.0),
        ("zb_h1", 4, 8, REAL, 27.7),
        ("zb_h1", 8, 16, REAL, 56.9),
        ("zb_v", 4, 8, V_UNIT, 25.5),
        ("zb_v", 8, 16, V_UNIT, 51.5),
        ("zb_v", 4, 8, V_REAL, 25.5),
        ("zb_v", 8, 16, V_REAL, 51.9),
    ],
)
def test_reference_makespans(
    name: str, devices: int, microbatches: int, costs: Costs, expected: float
) -> None:
    place = Placement.v if name == "zb_v" else Placement.linear
    placement = place(devices, microbatches)
    stages, (passes, latency) = placement.num_stages, costs
    problem = pipeline_problem(
        StageCosts.uniform(stages, passes, latency=latency),
        placement,
        capacity=stages,
        is_fused=name == "1f1b",
    )
    schedule = apply_order(problem, make_order(name, placement))
    assert schedule.length == round(20 * expected)
    assert fits(problem, schedule.start)
    assert check(problem, schedule.start) == []


@pytest.mark.parametrize(("name", "share"), [("zb_v", 1), ("v_half", 0.63), ("v_min", 0.5)])
def test_memory_of_v_orders(name: str, share: float) -> None:
    placement = Placement.v(8, 32)
    problem = pipeline_problem(StageCosts.uniform(16), placement)
    schedule = apply_order(problem, make_order(name, placement))
    assert max(peaks(problem, schedule.start)) <= share * 16
    assert schedule.length < 1.15 * 32 * 6


@pytest.mark.parametrize("microbatches", [1, 2, 3, 8, 13])
@pytest.mark.parametrize("name", ["zb_v", "v_half", "v_min", *TWO_WAY])
def test_any_number_of_microbatches(name: str, microbatches: int) -> None:
    place = Placement.bidirectional if name in TWO_WAY else Placement.v
    for devices in (1, 2, 3, 5) if name not in TWO_WAY else (2, 3, 4):
        if name in TWO_WAY and microbatches < 2:
            continue  # one microbatch runs one way
        placement = place(devices, microbatches)
        order = make_order(name, placement)
        assert parse_order(str(order), name) == order
        problem = pipeline_problem(StageCosts.uniform(placement.num_stages), placement)
        assert check(problem, apply_order(problem, order).start) == []


def test_both_directions_beat_one_with_memory_of_one_more() -> None:
    placement = Placement.bidirectional(4, 8)
    problem = pipeline_problem(StageCosts.uniform(4), placement, capacity=5)
    found = {s.made_by: s for s in portfolio(problem)}
    assert {"chimera", "dualpipe"} <= set(found)
    assert found["dualpipe"].length == 25 < 27  # ZB-H1's
    assert fits(problem, found["dualpipe"].start)


def test_orders_capped_by_memory() -> None:
    problem = pipeline_problem(StageCosts.uniform(4), Placement.linear(4, 8), capacity=3)
    fitting = [s.made_by for s in portfolio(problem) if fits(problem, s.start)]
    assert "zb_h1 of 3" in fitting


def test_what_fits_comes_first() -> None:
    problem = pipeline_problem(StageCosts.uniform(4), Placement.linear(4, 8), capacity=4)
    known = portfolio(problem)
    fitting = [fits(problem, s.start) for s in known]
    assert fitting == sorted(fitting, reverse=True)
    assert known[0].length == min(s.length for s in known if fits(problem, s.start))


@pytest.mark.parametrize(
    ("name", "placement", "message"),
    [
        ("zb_w", Placement.linear(2, 2), "unknown order 'zb_w'; use one of 1f1b, .*zb_v"),
        ("zb_v", Placement.looped(2, 2), "order zb_v: expected two stages on each device"),
        ("chimera", Placement.linear(2, 2), "expected a placement that is bidirectional"),
        ("1f1b", Placement.bidirectional(2, 2), "one way for all microbatches"),
        ("1f1b", Placement(((0, 1), (1, 1))), "microbatches take several ways"),
    ],
)
def test_orders_for_other_placements(name: str, placement: Placement, message: str) -> None:
    with pytest.raises(ScheduleError, match=message):
        make_order(name, placement)


def test_an_action_of_several_works_runs_them_as_the_data_says_part_by_part() -> None:
    """Two parts in time, each a work and one before it that has a higher number."""
    works = [Work(f"B0.0 part {i}", Kind.BACKWARD, 0, 0, (0,), 1) for i in range(4)]
    problem = Problem((Lane((0,)),), tuple(works), (Edge(2, 0), Edge(3, 1)), (), ())
    action = Action(Kind.BACKWARD, 0, 0)
    assert actions_of(problem) == {action: (2, 0, 3, 1)}
    found = apply_order(problem, PipelineOrder("one", ((action,),)))
    assert found.start == (1, 3, 0, 2)

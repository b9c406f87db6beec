"""Replay: earliest starts, works that no list names, and the cycle when orders contradict data."""

import random
from dataclasses import replace

import pytest
from pipelines import uniform

from superscaler.errors import ScheduleError
from superscaler.schedule.check import check
from superscaler.schedule.memory import peaks
from superscaler.schedule.problem import Edge, Hold, Kind, Lane, Memory, Problem, Work
from superscaler.schedule.replay import earliest, lane_order, length, replay


def chain(*durations: int, lanes: int = 1) -> Problem:
    works = tuple(
        Work(f"w{i}", Kind.OTHER, -1, -1, (i % lanes,), d) for i, d in enumerate(durations)
    )
    return Problem(tuple(Lane((i,)) for i in range(lanes)), works, ())


def test_lists_are_kept_and_the_rest_fills_in() -> None:
    problem = chain(3, 2, 4)
    assert replay(problem, [(2, 0, 1)]) == (4, 7, 0)
    assert replay(problem, [None]) == (0, 3, 5)
    assert replay(problem, [(2, 0)]) == (4, 7, 0)  # what is listed comes first


def test_a_work_on_two_lanes_takes_both() -> None:
    works = (
        Work("a", Kind.OTHER, -1, -1, (0,), 3),
        Work("b", Kind.OTHER, -1, -1, (0, 1), 2),
        Work("c", Kind.OTHER, -1, -1, (1,), 1),
    )
    problem = Problem((Lane((0,)), Lane((1,))), works, (Edge(1, 2, 5),))
    start = replay(problem, [None, None])
    assert start == (0, 3, 10)
    assert check(problem, start) == []


def test_replay_of_a_schedules_own_order_is_no_later() -> None:
    rng = random.Random(5)
    problem = uniform(3, 4, latency=2)
    for _ in range(20):
        late = Edge(0, rng.choice((1, 2)), rng.randint(0, 9))
        start = replay(replace(problem, edges=(*problem.edges, late)), [None] * 3)
        early = replay(problem, lane_order(problem, start))
        assert all(e <= s for e, s in zip(early, start))
        assert check(problem, early) == []


def test_makespan_and_span() -> None:
    problem = uniform(2, 1)
    start = replay(problem, [None, None])
    assert length(problem, start) == 20 + 20 + 22 + 22 + 16
    assert length(problem, start, "span") == 100  # device 0 waits for device 1 in between


def test_a_cycle_is_printed_with_what_each_edge_is() -> None:
    problem = uniform(2, 2)
    number = problem.number
    order = [[number["B0.0"], number["F0.0"]], None]
    with pytest.raises(ScheduleError) as caught:
        replay(problem, order)
    text = str(caught.value)
    assert "these works wait for each other" in text
    assert "F0.0 waits for B0.0 (resource: lane 0)" in text
    assert "(data)" in text
    assert "change the order of one of these works" in text


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ([(0, 0)], "the order of lane 0 names w0 twice"),
        ([(0,), (1,)], "an order of 2 lanes for a problem of 1"),
    ],
)
def test_lists_that_are_none(order: list[tuple[int, ...]], message: str) -> None:
    with pytest.raises(ScheduleError, match=message):
        replay(chain(1, 1), order)


def test_a_list_with_another_lanes_work() -> None:
    with pytest.raises(ScheduleError, match="the order of lane 0 names w1, which runs on 1"):
        replay(chain(1, 1, lanes=2), [(1,), None])


def test_peaks_count_what_ends_before_what_begins() -> None:
    problem = Problem(
        (Lane((0,)),),
        chain(2, 2, 2).works,
        (),
        (Memory((0,), 10, 1),),
        (Hold(0, 4, (0,), (1,)), Hold(0, 3, (2,), (2,)), Hold(0, 2, (0,), (2,))),
    )
    assert peaks(problem, (0, 2, 4)) == (1 + 4 + 2,)
    assert peaks(problem, (2, 4, 0)) == (1 + 4,)  # the last hold is over when it begins


@pytest.mark.parametrize(("capacity", "expected"), [(1, (0, 5)), (2, (0, 0))])
def test_earliest_waits_for_memory(capacity: int, expected: tuple[int, int]) -> None:
    """Two works without an edge, of which a memory may have room for one at a time."""
    holds = tuple(Hold(0, 1, (w,), (w,)) for w in (0, 1))
    problem = replace(chain(5, 2, lanes=2), memories=(Memory((0,), capacity),), holds=holds)
    assert earliest(problem, (0, 5)) == expected

"""Known orders: their text, what they demand, and that they run."""

import pytest
from pipelines import uniform

from superscaler.errors import ScheduleError
from superscaler.schedule.check import check
from superscaler.schedule.memory import peaks
from superscaler.schedule.orders import ORDERS, parse_order, sequences
from superscaler.schedule.portfolio import apply_order

STAGES = [(0,), (1,)]


@pytest.mark.parametrize("name", ["gpipe", "1f1b", "zb_h1", "zb_h2", "breadth_first"])
@pytest.mark.parametrize("microbatches", [1, 3, 8])
def test_orders_run_and_their_text_round_trips(name: str, microbatches: int) -> None:
    order = ORDERS[name]([0, 1, 2, 3], microbatches)
    assert parse_order(str(order), name) == order
    problem = uniform(4, microbatches, latency=1)
    assert check(problem, apply_order(problem, order).start) == []


@pytest.mark.parametrize("name", ["interleaved", "breadth_first"])
def test_several_stages_a_device(name: str) -> None:
    order = ORDERS[name]([0, 1, 2, 0, 1, 2], 6)
    assert parse_order(str(order), name) == order
    assert all(len(line) == 2 * 6 * 2 for line in order.lines)


def test_interleaved_is_megatrons() -> None:
    first, second = str(ORDERS["interleaved"]([0, 1, 0, 1], 2)).splitlines()
    assert first == "F0.0 F0.1 F2.0 F2.1 BW2.0 BW2.1 BW0.0 BW0.1"
    assert second == "F1.0 F1.1 F3.0 BW3.0 F3.1 BW3.1 BW1.0 BW1.1"


def test_zero_bubble_memory() -> None:
    """H1 holds no more than 1F1B, H2 less than twice that."""
    problem = uniform(4, 12)
    held = {n: max(peaks(problem, apply_order(problem, ORDERS[n](range(4), 12)).start))
            for n in ("1f1b", "zb_h1", "zb_h2")}  # fmt: skip
    assert held == {"1f1b": 4, "zb_h1": 4, "zb_h2": 7}


@pytest.mark.parametrize(
    ("name", "devices", "microbatches", "message"),
    [
        ("1f1b", [0, 1, 0, 1], 4, "order 1f1b: expected one stage on each device"),
        ("interleaved", [0, 1, 1, 0], 4, "expected stages dealt to the devices in turn"),
        (
            "interleaved",
            [0, 1, 0, 1],
            3,
            "3 microbatches are not divisible by 2 devices; use 2 or 4",
        ),
    ],
)
def test_what_an_order_demands(
    name: str, devices: list[int], microbatches: int, message: str
) -> None:
    with pytest.raises(ScheduleError, match=message):
        ORDERS[name](devices, microbatches)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("F0.0 G0.0", "order, line 1: expected an action such as F0.3 .*, found 'G0.0'"),
        ("F0.0 F0.0", "order, line 1: F0.0 is there twice; it runs once"),
        ("F0.0 F2.0", "there is no F2.0; the plan has stages 0 to 1 and microbatches 0 to 1"),
        ("F0.0 F1.0\nF0.1", "line 2: F0.1 runs on the devices of line 1"),
        ("F0.0 F0.1 B0.0 BW0.0", "order, line 1: BW0.0 repeats work of B0.0; give every task"),
    ],
)
def test_texts_that_are_no_order(text: str, message: str) -> None:
    with pytest.raises(ScheduleError, match=message):
        sequences(text, STAGES, 2)


def test_an_order_that_misses_an_action_of_a_problem() -> None:
    with pytest.raises(ScheduleError, match=r"order order: .* is missing"):
        apply_order(uniform(2, 2), parse_order("F0.0 B0.0 W0.0\nF1.0 B1.0 W1.0"))


def test_an_order_that_contradicts_the_data() -> None:
    with pytest.raises(ScheduleError, match="these works wait for each other"):
        apply_order(uniform(1, 1), parse_order("W0.0 B0.0 F0.0"))

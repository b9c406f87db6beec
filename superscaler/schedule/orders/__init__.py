"""Orders: known pipeline schedules, and the text form of any."""

from collections.abc import Callable, Sequence

from superscaler.schedule.orders.known import (
    breadth_first,
    gpipe,
    interleaved,
    one_f_one_b,
    zb_h1,
    zb_h2,
)
from superscaler.schedule.orders.order import Action, PipelineOrder, parse_order
from superscaler.schedule.orders.sequences import sequences

ORDERS: dict[str, Callable[[Sequence[int], int], PipelineOrder]] = {
    "gpipe": gpipe,
    "1f1b": one_f_one_b,
    "interleaved": interleaved,
    "breadth_first": breadth_first,
    "zb_h1": zb_h1,
    "zb_h2": zb_h2,
}

__all__ = ["ORDERS", "Action", "PipelineOrder", "parse_order", "sequences"]

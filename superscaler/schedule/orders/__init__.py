"""Orders: known pipeline schedules, and the text form of any."""

from superscaler.schedule.orders.make import make_order
from superscaler.schedule.orders.order import Action, PipelineOrder, parse_order
from superscaler.schedule.orders.sequences import ORDERS, sequences
from superscaler.schedule.orders.two_way import TWO_WAY

__all__ = [
    "ORDERS",
    "TWO_WAY",
    "Action",
    "PipelineOrder",
    "make_order",
    "parse_order",
    "sequences",
]

"""Orders: known pipeline schedules, and the text form of any."""

from superscaler.schedule.orders.order import Action, PipelineOrder, parse_order
from superscaler.schedule.orders.sequences import ORDERS, sequences

__all__ = ["ORDERS", "Action", "PipelineOrder", "parse_order", "sequences"]

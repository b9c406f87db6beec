"""Make: a known order by name, for a placement."""

from __future__ import annotations

from superscaler.errors import ScheduleError
from superscaler.schedule.orders.order import PipelineOrder
from superscaler.schedule.orders.sequences import ORDERS
from superscaler.schedule.orders.two_way import TWO_WAY
from superscaler.schedule.pipeline import Placement


def make_order(name: str, placement: Placement) -> PipelineOrder:
    """The order of a name. Raises ScheduleError when the name is unknown, or the order is for
    another form of placement."""
    known = {**ORDERS, **TWO_WAY}
    if name not in known:
        raise ScheduleError(f"unknown order {name!r}; use one of {', '.join(sorted(known))}")
    is_two_way = placement.form == "bidirectional"
    if len(set(placement.chains)) > 1 and not is_two_way:
        raise ScheduleError(f"order {name}: microbatches take several ways; use an explicit order")
    if (name in TWO_WAY) != is_two_way:
        wanted = "bidirectional" if name in TWO_WAY else "one way for all microbatches"
        raise ScheduleError(
            f"order {name}: expected a placement that is {wanted}, found {placement.form}"
        )
    return known[name]([row[0] for row in placement.devices], placement.num_microbatches)

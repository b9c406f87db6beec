"""The constant that tells a rank its part in a point-to-point conversion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from superscaler.emit.constants import Constants
from superscaler.emit.literals import Constant
from superscaler.materialize.general import Exchange, exchanges
from superscaler.materialize.program import BOUNDARY, Conversion, Program
from superscaler.runtime.by_time import Time


def exchange_constant(program: Program, constants: Constants, conversion: Conversion) -> Constant:
    """The exchange of `conversion` for each rank, by the running task's time index."""
    inside = conversion.scope != BOUNDARY
    plans: dict[Time, Mapping[int, Exchange]] = {}

    def value(rank: int, time: Time) -> Any:
        key = conversion.route.key_of(time) if inside else time
        if key not in plans:
            plans[key] = exchanges(conversion.route, key)
        mine = plans[key].get(rank, Exchange())
        is_one = inside or conversion.route.has_one_source
        return _untimed(mine).spec() if is_one else mine.spec()

    return constants.get("exchange", ("exchange", conversion.id), value)


def _untimed(exchange: Exchange) -> Exchange:
    """Where there is one source part, such as inside a task, its time index is left out."""
    now: Time = ()
    local = tuple((now, a, b, add) for _, a, b, add in exchange.local)
    send = tuple((now, a, rank) for _, a, rank in exchange.send)
    slots = tuple((now, size) for _, size in exchange.slots[:1])
    return Exchange(local, send, exchange.recv, slots, exchange.out)

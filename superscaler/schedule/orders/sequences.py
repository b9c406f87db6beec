"""Orders: known pipeline schedules as sequences of macro tasks (label, microbatch) per stage."""

from __future__ import annotations

from collections.abc import Callable

Sequence = tuple[tuple[str, int], ...]


def gpipe(stage: int, num_stages: int, num_microbatches: int) -> Sequence:
    """All forwards, then all backwards.

    >>> gpipe(0, 2, 2)
    (('forward_0', 0), ('forward_0', 1), ('backward_0', 0), ('backward_0', 1))
    """
    del num_stages
    forward = [(f"forward_{stage}", m) for m in range(num_microbatches)]
    return (*forward, *((f"backward_{stage}", m) for m in range(num_microbatches)))


def one_f_one_b(stage: int, num_stages: int, num_microbatches: int) -> Sequence:
    """PipeDream-flush: as many forwards ahead as later stages need, then one backward each.

    >>> one_f_one_b(1, 2, 2)
    (('forward_1', 0), ('backward_1', 0), ('forward_1', 1), ('backward_1', 1))
    """
    ahead = min(num_stages - stage, num_microbatches)
    entries = [(f"forward_{stage}", m) for m in range(ahead)]
    for m in range(num_microbatches):
        entries.append((f"backward_{stage}", m))
        if m + ahead < num_microbatches:
            entries.append((f"forward_{stage}", m + ahead))
    return tuple(entries)


ORDERS: dict[str, Callable[[int, int, int], Sequence]] = {"gpipe": gpipe, "1f1b": one_f_one_b}


def sequences(order: str, num_stages: int, num_microbatches: int) -> tuple[Sequence, ...]:
    """One sequence per stage; none for the order "none"."""
    if order == "none" or num_microbatches == 1:
        return ()
    return tuple(ORDERS[order](s, num_stages, num_microbatches) for s in range(num_stages))

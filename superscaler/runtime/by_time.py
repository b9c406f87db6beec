"""Constants with a value for each time index of the running task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Time = tuple[int, ...]
Table = Mapping[tuple[int | None, ...], Any]  # None: whatever the number is


def is_table(constant: Any) -> bool:
    """Whether a constant has a value for each time index."""
    return (
        isinstance(constant, dict)
        and bool(constant)
        and all(isinstance(key, tuple) for key in constant)
    )


def look_up(table: Table, time: Time) -> Any:
    """The value at a time index. Raises KeyError where the table has none.

    >>> look_up({(None, 0): "a", (None, 1): "b"}, (7, 1))
    'b'
    """
    pattern = next(iter(table))
    if len(pattern) != len(time):
        raise KeyError(time)
    return table[tuple(None if p is None else t for p, t in zip(pattern, time))]


def folded(table: Table) -> Any:
    """The same values in a table without the numbers that do not matter; one value where none does.

    >>> folded({(0, 0): "a", (0, 1): "b", (1, 0): "a", (1, 1): "b"})
    {(None, 0): 'a', (None, 1): 'b'}
    >>> folded({(0,): "a", (1,): "a"})
    'a'
    """
    first = next(iter(table.values()))
    if all(value == first for value in table.values()):
        return first
    if len({len(time) for time in table}) > 1:
        return table
    for dim in range(len(next(iter(table)))):
        table = _without(table, dim) or table
    return table


def _without(table: Table, dim: int) -> Table | None:
    """The table without the numbers at `dim`, None where they matter."""
    found: dict[tuple[int | None, ...], Any] = {}
    for time, value in table.items():
        rest = (*time[:dim], None, *time[dim + 1 :])
        if found.setdefault(rest, value) != value:
            return None
    return found

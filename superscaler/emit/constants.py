"""Constants: what differs between ranks that run the same code, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from superscaler.emit.literals import Constant
from superscaler.runtime.by_time import Time, folded, is_table, look_up

Value = Callable[[int, Time], Any]  # (rank, time index of the running task) -> value


@dataclass
class Constants:
    """The constants of a program, by a key that says what they are."""

    by_key: dict[Any, str] = field(default_factory=dict)
    values: dict[str, Value] = field(default_factory=dict)
    known: dict[tuple[str, int], Any] = field(default_factory=dict)  # what `of_rank` has found

    def get(self, prefix: str, key: Any, value: Value) -> Constant:
        """The constant for `key`, made on first use; `prefix` starts its name."""
        if key not in self.by_key:
            number = sum(
                1
                for name in self.values
                if name.startswith(prefix) and name[len(prefix) :].isdigit()
            )
            name = f"{prefix}{number}"
            self.by_key[key] = name
            self.values[name] = value
        return Constant(self.by_key[key])

    def of_rank(self, name: str, rank: int, times: list[Time]) -> Any:
        """The constant's value on a rank: one value, or a table by time index where they differ."""
        found = folded({t: self.values[name](rank, t) for t in times})
        self.known[name, rank] = found
        return found

    def at(self, name: str, rank: int, time: Time) -> Any:
        """The constant's value on a rank for a running task's time index."""
        found = self.known.get((name, rank))
        if found is None:
            return self.values[name](rank, time)
        if not is_table(found):
            return found
        try:
            return look_up(found, time)
        except KeyError:
            return self.values[name](rank, time)

    def is_fixed(self, name: str, rank: int) -> bool:
        """Whether a value that `of_rank` has found is known to be the same at all times."""
        found = self.known.get((name, rank))
        return found is not None and not isinstance(found, dict)

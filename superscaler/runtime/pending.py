"""Pending: a value that a communication in flight will produce."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Pending:
    """A value under way; `wait` blocks until it is there, and may be called any number of times."""

    __slots__ = ("_finish", "_value")

    def __init__(self, finish: Callable[[], Any]) -> None:
        self._finish: Callable[[], Any] | None = finish
        self._value: Any = None

    def wait(self) -> Any:
        """The value, once it has arrived."""
        if self._finish is not None:
            self._value = self._finish()
            self._finish = None  # what the communication kept alive may go
        return self._value

    def then(self, function: Callable[[Any], Any]) -> Pending:
        """The value that `function` makes of this one, computed when it is waited for."""
        return Pending(lambda: function(self.wait()))


def resolve(value: Any) -> Any:
    """`value` itself, or what a Pending value turns out to be."""
    return value.wait() if type(value) is Pending else value

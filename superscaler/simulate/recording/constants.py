"""Marked constants: the numbers of one rank, which remember the constant that they come from.

A function is recorded once for all ranks that call it with constants of one form; who they talk
to is looked up again for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from superscaler.emit.constants import Constants
from superscaler.runtime.by_time import Time


class Peer(int):
    """A rank, and where it is written."""

    constant: str
    index: int

    @staticmethod
    def of(rank: int, constant: str, index: int = -1) -> Peer:
        peer = Peer(rank)
        peer.constant, peer.index = constant, index
        return peer


class Group(tuple[int, ...]):
    """The ranks of a collective, and where they are written."""

    constant: str

    @staticmethod
    def of(ranks: Sequence[int], constant: str) -> Group:
        group = Group(ranks)
        group.constant = constant
        return group


def kind_of(constant: str) -> str:
    """`group`, `to`, ... of `group3`."""
    return constant.rstrip("0123456789")


def marked(constants: Constants, names: Sequence[str], rank: int, time: Time) -> dict[str, Any]:
    """The constants of these names on a rank, for a task's time index."""
    return {name: _mark(name, constants.values[name](rank, time)) for name in names}


def signature(values: dict[str, Any], rank: int) -> tuple[Any, ...]:
    """Ranks with equal signatures do the same in a function, but for whom they talk to."""
    return tuple(_form(name, value, rank) for name, value in values.items())


def _mark(name: str, value: Any) -> Any:
    kind = kind_of(name)
    if kind == "group":
        return Group.of(value, name)
    if kind in ("to", "from"):
        return Peer.of(value, name)
    if kind == "exchange":
        send = [(t, box, Peer.of(to, name, i)) for i, (t, box, to) in enumerate(value["send"])]
        recv = [(Peer.of(f, name, i), box, add) for i, (f, box, add) in enumerate(value["recv"])]
        return {**value, "send": send, "recv": recv}
    return value


def _form(name: str, value: Any, rank: int) -> Any:
    kind = kind_of(name)
    if kind == "group":
        return (len(value), list(value) == sorted(value))
    if kind in ("to", "from"):
        return int(value) == rank
    if kind == "exchange":
        send = [(t, box) for t, box, _ in value["send"]]
        recv = [(box, add) for _, box, add in value["recv"]]
        return repr((value["local"], send, recv, value["slots"], value["out"]))
    return None

"""Values: what a rank holds between calls, and the memory behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from superscaler.simulate.recording.record import Arrival, Form, Given, Record


@dataclass(eq=False)
class Storage:
    """Memory; `refs` values, calls and communications hold it. `label` says what it is."""

    num_bytes: int
    label: str
    refs: int = 0
    in_host: bool = False

    def name(self, label: str) -> None:
        """Say what it is, unless that is known."""
        if not self.label or "\0" in self.label:
            self.label = label


@dataclass(eq=False)
class Held:
    """A value: a tensor in a storage."""

    form: Form
    storage: Storage


@dataclass(eq=False)
class Arriving:
    """An arrival of a call that was made: the call's storages by number, those that it holds, the
    script's numbers of the call's communications, and how many values have not been waited for."""

    arrival: Arrival
    record: Record
    storages: dict[int, Storage]
    posts: dict[int, int]
    held: list[Storage] = field(default_factory=list)
    waiting: int = 0
    has_come: bool = False


@dataclass(eq=False)
class Underway:
    """A value that comes with others: output `output` of the call."""

    arriving: Arriving
    output: int


@dataclass(eq=False)
class Summing:
    """A value that will be `total` and what is under way together; made in place or not."""

    total: Held
    came: Underway
    in_place: bool
    label: str


Value = Held | Underway | Summing
Argument = Held | dict[tuple[int, ...], Held]


def copies(values: Mapping[int, Held]) -> dict[int, Value]:
    """The values, in storages of their own; what shared one shares one."""
    new: dict[Storage, Storage] = {}
    for held in values.values():
        old = held.storage
        new.setdefault(old, Storage(old.num_bytes, old.label, old.refs, old.in_host))
    return {n: Held(held.form, new[held.storage]) for n, held in values.items()}


def numbered(arguments: list[Argument]) -> tuple[tuple[Given, ...], list[Storage]]:
    """The forms, with storages numbered in order of appearance, and the storages."""
    numbers: dict[Storage, int] = {}

    def form(held: Held) -> Form:
        number = numbers.setdefault(held.storage, len(numbers))
        return replace(held.form, storage=number, storage_bytes=held.storage.num_bytes)

    forms: list[Given] = [
        {t: form(h) for t, h in item.items()} if isinstance(item, dict) else form(item)
        for item in arguments
    ]
    return tuple(forms), list(numbers)

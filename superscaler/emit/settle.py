"""Settle: the last copies out of a task are waited for after the task that its rank runs next.

forward_0 (1), backward_0 (0), forward_0 (2)
-> forward_0 (1), backward_0 (0), settle_forward_0 (1), forward_0 (2)
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from superscaler.emit.copies import left_open
from superscaler.emit.emission import Emission
from superscaler.emit.function import Function, spec
from superscaler.emit.listing import Listing
from superscaler.schedule.segments import Segment


def settle_copies(listing: Listing, names: Sequence[str]) -> None:
    """Add the entries to every rank's schedule; `names` are those of the segments."""
    functions: dict[int, str] = {}
    for number in sorted(set(listing.segment_of.values())):
        function = _settle(listing.emission, listing.emission.program.tasks.segments[number])
        if function.reads:
            functions[number] = listing.place(f"settle_{names[number]}", function)
            listing.copies_of[functions[number]] = number
    if functions:
        for entries in listing.schedules.values():
            _insert(listing, functions, entries)


def _settle(emission: Emission, segment: Segment) -> Function:
    """Reads, so waits for, what a segment copies out last."""
    doc = f"What {segment.label} copied out last is there; its source is free."
    function, time = Function(doc), tuple(range(len(segment.time_shape)))
    for tensor in left_open(emission, segment):
        name = emission.name(tensor)
        function.read(name, spec(name, time))
    return function


def _insert(
    listing: Listing, functions: dict[int, str], entries: list[tuple[str, tuple[int, ...]]]
) -> None:
    tasks = [i for i, (name, _) in enumerate(entries) if name in listing.segment_of]
    for i, following in reversed(list(pairwise(tasks))):
        name, time = entries[i]
        settle = functions.get(listing.segment_of[name])
        if settle:
            entries.insert(following + 1, (settle, time))

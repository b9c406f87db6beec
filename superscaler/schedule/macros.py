"""Macro tasks: all tasks of one label (`forward_0`) and microbatch, which a plan's order places as
one."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise

from superscaler.errors import ScheduleError
from superscaler.schedule.segments import Segment
from superscaler.transform.partition import Partition

Macro = tuple[str, int]
_LABEL = re.compile(r"(forward|backward|weight)_(\d+)")


def sequence_edges(
    partition: Partition,
    segments: list[Segment],
    tasks: list[tuple[int, int, tuple[int, ...]]],
    before: Sequence[Collection[int]],
) -> dict[tuple[int, int], str]:
    """(task, task before it) -> what the partition's sequences say of them; a task is given by its
    segment, its microbatch (0 where it has none) and its devices. Left out is what follows from the
    others and from `before` (task -> those it waits for).

    Raises ScheduleError when an order leaves out a macro task of the program.
    """
    macros: dict[Macro, list[int]] = {}
    for number, (segment, microbatch, _) in enumerate(tasks):
        if segments[segment].label:
            macros.setdefault((segments[segment].label, microbatch), []).append(number)
    if partition.sequences:
        _check_complete(partition.sequences, macros)
    devices = [frozenset(ranks) for _, _, ranks in tasks]
    found: dict[tuple[int, int], str] = {}
    for line, sequence in enumerate(partition.sequences, 1):
        present = [m for m in sequence if m in macros]
        for first, second in pairwise(present):
            kind = f"order, line {line}: {action(first, macros)} {action(second, macros)}"
            for x, y in _pairs(macros[first], macros[second], devices, before):
                found.setdefault((y, x), kind)
    return found


def _pairs(
    first: list[int],
    second: list[int],
    devices: Sequence[frozenset[int]],
    before: Sequence[Collection[int]],
) -> Iterator[tuple[int, int]]:
    """Tasks of one macro task and of the next that share a device: of the first those that none of
    its tasks on these devices waits for, of the second those that wait for none."""
    last = {
        wanted: _without_reader(_sharing(first, wanted, devices), before)
        for wanted in {devices[y] for y in second}
    }
    begin = {
        wanted: _without_maker(_sharing(second, wanted, devices), before)
        for wanted in {devices[x] for x in first}
    }
    for wanted, ends in last.items():
        for x in ends:
            yield from ((x, y) for y in begin[devices[x]] if devices[y] == wanted)


def _sharing(
    tasks: list[int], wanted: frozenset[int], devices: Sequence[frozenset[int]]
) -> list[int]:
    return [t for t in tasks if devices[t] & wanted]


def _without_reader(tasks: list[int], before: Sequence[Collection[int]]) -> list[int]:
    waited_for = {b for t in tasks for b in before[t]}
    return [t for t in tasks if t not in waited_for]


def _without_maker(tasks: list[int], before: Sequence[Collection[int]]) -> list[int]:
    among = set(tasks)
    return [t for t in tasks if among.isdisjoint(before[t])]


def action(macro: Macro, macros: Collection[Macro]) -> str:
    """A macro task as orders write it: F0.3, B1.0, or BW1.0 where W is part of it."""
    label, microbatch = macro
    phase, _, stage = label.rpartition("_")
    is_fused = phase == "backward" and (f"weight_{stage}", microbatch) not in macros
    kind = "BW" if is_fused else phase[:1].upper()
    return f"{kind}{stage}.{microbatch}"


def _check_complete(sequences: tuple[tuple[Macro, ...], ...], macros: Collection[Macro]) -> None:
    """Every macro task of a stage is in some line."""
    given = {macro for sequence in sequences for macro in sequence}
    line_of = {m[0].rpartition("_")[2]: i for i, s in enumerate(sequences, 1) for m in s}
    for macro in macros:
        found = _LABEL.fullmatch(macro[0])
        if found is None or macro in given:
            continue
        line = line_of.get(found.group(2))
        where = f", line {line}" if line else ""
        raise ScheduleError(
            f"order{where}: {action(macro, macros)} is missing; give every task once"
        )

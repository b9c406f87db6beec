"""Timeline: a rank's schedule, resolved once into calls on numbered values with their lifetimes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from superscaler.runtime.failures import ProgramError
from superscaler.runtime.handover import caller
from superscaler.runtime.program import MARKS, Key, RankProgram, Task

Values = dict[int, Any]  # by the value's number
Caller = Callable[..., Any]


class Write(IntEnum):
    """What becomes of a value that a task returns."""

    DROP = 0  # nothing reads it
    STORE = 1
    ADD = 2  # to a value that others may share: makes a new tensor
    ADD_IN_PLACE = 3
    MAX = 4  # the larger of each element; makes a new tensor
    MERGE = 5  # of partial results of attention; makes a new tensor


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the schedule: `caller(function, ctx, values, reads)` runs it."""

    name: str
    time: tuple[int, ...]
    function: Callable[..., tuple[Any, ...]]
    caller: Caller
    reads: tuple[Any, ...]  # numbers, or a dict of numbers by time index
    writes: tuple[tuple[int, Write], ...]
    dying: tuple[bool, ...] = ()  # per read: whether the value is handed over and freed


@dataclass(frozen=True)
class Timeline:
    """The entries, and the number of every value."""

    entries: tuple[Entry, ...]
    numbers: dict[Key, int]
    read_inputs: frozenset[Key]  # leaves of the batch that some task reads


def timeline(program: RankProgram) -> Timeline:
    """Resolve a rank's schedule.

    Values are freed by the last entry that reads them; results, new buffers and what rests on the
    rank stay. Raises ProgramError when a task reads what nothing has written before it.
    """
    steps = [_Step(program, name, time) for name, time in program.schedule]
    resting = {placed.key for placed in (*program.parameters, *program.buffers)}
    inputs = {placed.key for placed in program.inputs}
    keep = resting | _outcomes(program)
    numbers = _number(steps, resting | inputs)
    lifetimes = _Lifetimes(steps, keep)
    written = _Written(resting | inputs)
    entries = []
    for position, step in enumerate(steps):
        reads = [written.read(spec, step) for spec in step.reads]
        dying = lifetimes.dying(position, reads)
        call = caller(tuple(_code(read, dies) for read, dies in zip(reads, dying, strict=True)))
        writes = [
            written.write(key, reduces, lifetimes.is_read_after(key, position))
            for key, reduces in step.writes
        ]
        entries.append(
            Entry(
                step.name,
                step.time,
                step.task.function,
                call,
                tuple(_numbered(read, numbers) for read in reads),
                tuple(
                    (numbers[key], how) for (key, _), how in zip(step.writes, writes, strict=True)
                ),
                tuple(dying),
            )
        )
    missing = keep - resting - written.keys
    if missing:
        raise ProgramError(f"rank {program.rank}: no task writes the results {sorted(missing)}")
    return Timeline(tuple(entries), numbers, frozenset(inputs & lifetimes.read_keys))


def parse_key(spec: str, time: tuple[int, ...]) -> Key:
    """The value that a spec without `+` and `*` names at a time index; `#2` is the number 2.

    >>> parse_key("x@1,#2", (4, 7))
    ('x', (7, 2))
    """
    name, _, positions = spec.partition("@")
    return name, tuple(_index(p, time) for p in positions.split(",")) if positions else ()


def _index(position: str, time: tuple[int, ...]) -> int:
    return int(position[1:]) if position.startswith("#") else time[int(position)]


class _Step:
    """An entry of the schedule with its specs parsed; a read of every time index is a str."""

    def __init__(self, program: RankProgram, name: str, time: tuple[int, ...]) -> None:
        if name not in program.tasks:
            raise ProgramError(f"rank {program.rank}: the schedule names no task {name!r}")
        self.name, self.time, self.rank = name, time, program.rank
        self.task: Task = program.tasks[name]
        try:
            self.reads: list[Key | str] = [
                spec.removesuffix("@*") if spec.endswith("@*") else parse_key(spec, time)
                for spec in self.task.reads
            ]
            self.writes = [
                (parse_key(spec.rstrip(MARKS), time), spec[-1] if spec[-1] in MARKS else "")
                for spec in self.task.writes
            ]
        except (IndexError, ValueError) as error:
            raise ProgramError(
                f"rank {program.rank}: task {name} {time}: a value's @ positions do not fit its "
                "time index"
            ) from error


class _Written:
    """The values that exist so far, and whether an addition may be in place."""

    def __init__(self, keys: Iterable[Key]) -> None:
        self.keys = set(keys)
        self._by_name: dict[str, list[Key]] = {}
        for key in sorted(self.keys):
            self._by_name.setdefault(key[0], []).append(key)
        self._owned: set[Key] = set()

    def read(self, spec: Key | str, step: _Step) -> Key | tuple[Key, ...]:
        keys = tuple(self._by_name.get(spec, ())) if isinstance(spec, str) else (spec,)
        for key in keys:
            if key not in self.keys:
                raise ProgramError(
                    f"rank {step.rank}: task {step.name} {step.time} reads {_show(key)}, which "
                    "nothing on this rank has written before"
                )
        self._owned.difference_update(keys)
        return keys if isinstance(spec, str) else spec

    def write(self, key: Key, reduces: str, is_read: bool) -> Write:
        if not is_read:
            return Write.DROP
        exists = key in self.keys
        if not exists:
            self.keys.add(key)
            self._by_name.setdefault(key[0], []).append(key)
        if not (reduces and exists):
            self._owned.discard(key)
            return Write.STORE
        if reduces == "^":
            return Write.MAX
        if reduces == "~":
            return Write.MERGE
        if key in self._owned:
            return Write.ADD_IN_PLACE
        self._owned.add(key)
        return Write.ADD


class _Lifetimes:
    """The last entry that reads each value."""

    def __init__(self, steps: Sequence[_Step], keep: set[Key]) -> None:
        self._keep = keep
        self._last: dict[Key | str, int] = {}
        for position, step in enumerate(steps):
            self._last.update(dict.fromkeys(step.reads, position))
        self.read_keys = {read for read in self._last if not isinstance(read, str)}

    def is_read_after(self, key: Key, position: int) -> bool:
        return self._last_read(key) > position or key in self._keep

    def dying(self, position: int, reads: Sequence[Key | tuple[Key, ...]]) -> list[bool]:
        """Per read: whether the value may be freed once it has been handed to this entry."""
        seen: set[Key] = set()
        result = []
        for read in reversed(reads):
            keys = (read,) if _is_key(read) else read
            result.append(all(self._dies(key, position) and key not in seen for key in keys))
            seen.update(keys)  # type: ignore[arg-type]
        return result[::-1]

    def _dies(self, key: Any, position: int) -> bool:
        return self._last_read(key) == position and key not in self._keep

    def _last_read(self, key: Key) -> int:
        return max(self._last.get(key, -1), self._last.get(key[0], -1))


def _outcomes(program: RankProgram) -> set[Key]:
    """What the rank needs after the last task: results and new values of buffers."""
    results = program.results
    keys = [results.get("loss"), results.get("grad_norm"), *results.get("metrics", {}).values()]
    keys += [new for new, _ in program.new_buffers]
    return {key for key in keys if key is not None}


def _number(steps: Sequence[_Step], first: Iterable[Key]) -> dict[Key, int]:
    written = (key for step in steps for key, _ in step.writes)
    return {key: number for number, key in enumerate(dict.fromkeys([*sorted(first), *written]))}


def _numbered(read: Any, numbers: dict[Key, int]) -> Any:
    if _is_key(read):
        return numbers[read]
    return {key[1]: numbers[key] for key in read}


def _is_key(read: Any) -> bool:
    return len(read) == 2 and isinstance(read[0], str)


def _code(read: Any, dies: bool) -> str:
    return ("dies" if dies else "stays") if _is_key(read) else ("all die" if dies else "all stay")


def _show(key: Key) -> str:
    name, time = key
    return f"{name}@{','.join(map(str, time))}" if time else name

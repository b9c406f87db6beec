"""Validate: an emitted program checked from its text alone, over all ranks, without running it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from typing import Any

from superscaler.emit.deadlocks import deadlocks
from superscaler.emit.parse import (
    LOCAL,
    Call,
    Entry,
    Files,
    Key,
    Listing,
    RankFile,
    key_of,
    parse_files,
)
from superscaler.emit.rendezvous import Problem, meet
from superscaler.errors import InvalidProgramError
from superscaler.runtime.by_time import Time
from superscaler.runtime.program import MARKS

LISTED = 10  # problems in an error


def validate_files(texts: Mapping[str, str]) -> list[Problem]:
    """Everything that is wrong with a program, [] when nothing is.

    Values are written once (or added up) before they are read, results exist, every parameter is
    updated once and its parts cover it, constants fit their calls, collectives and messages meet,
    and no ranks wait for each other. Numbers are not checked: that is `verify`.

    Raises MaterializeError when a file is missing or cannot be read.
    """
    return check_files(parse_files(texts))


def check_files(files: Files) -> list[Problem]:
    """`validate_files` of files that have been read."""
    met = meet(files)
    return [
        *_check_values(files),
        *_check_results(files),
        *_check_constants(files),
        *_check_cover(files),
        *(met.problems or deadlocks(met)),
    ]


def raise_problems(problems: list[Problem]) -> None:
    """Raises InvalidProgramError that lists the problems, if there are any."""
    if problems:
        more = f"\n  and {len(problems) - LISTED} more" if len(problems) > LISTED else ""
        listed = "\n  ".join(str(p) for p in problems[:LISTED])
        raise InvalidProgramError(f"the emitted program is not valid:\n  {listed}{more}")


# values


def _check_values(files: Files) -> Iterator[Problem]:
    """Every value is there before it is read; ranks that start from equal values are alike."""
    seen: set[object] = set()
    for rank in files.ranks:
        keys = frozenset(e["key"] for entries in rank.owned.values() for e in entries)
        trained = frozenset(_trained(rank))
        alike = (rank.program, keys, trained, tuple(_outcomes(rank)))
        if alike not in seen:
            seen.add(alike)
            yield from _check_flow(files.listings[rank.program], rank, set(keys))


def _outcomes(rank: RankFile) -> Iterator[Key]:
    """The values that the step hands back."""
    for name, value in rank.results.items():
        if value is not None:
            yield from value.values() if name == "metrics" else (value,)
    for new, old in rank.new_buffers:
        yield from (new, old)


def _trained(rank: RankFile) -> Iterator[Key]:
    for entry in rank.owned["PARAMETERS"]:
        if entry.get("trained"):
            yield entry["key"]


def _check_flow(listing: Listing, rank: RankFile, there: set[Key]) -> Iterator[Problem]:
    where = f"rank {rank.rank}"
    sums: set[Key] = set()
    updated: dict[Key, int] = {}
    by_name: dict[str, set[Time]] = {}
    for name, time in there:
        by_name.setdefault(name, set()).add(time)
    for entry in listing.entries:
        for spec in entry.reads:
            if not spec.endswith("@*") and (key := key_of(spec, entry)) not in there:
                yield Problem(
                    where, f"{entry} reads {_shown(key)}, which nothing has written before"
                )
        yield from _check_parts(rank, entry, by_name)
        for spec in entry.writes:
            key, adds = key_of(spec.rstrip(MARKS), entry), spec[-1] in MARKS
            if key in there and not (adds and key in sums):
                yield Problem(where, f"{entry} writes {_shown(key)}, which has a value already")
            if adds:
                sums.add(key)
            there.add(key)
            by_name.setdefault(key[0], set()).add(key[1])
        for name, timed in entry.body.updates:
            stepped = (name, entry.time if timed else ())
            updated[stepped] = updated.get(stepped, 0) + 1
    for key in sorted(set(_outcomes(rank)) - there):
        yield Problem(where, f"nothing writes the result {_shown(key)}")
    yield from _check_updates(where, list(_trained(rank)), updated)


def _check_parts(rank: RankFile, entry: Entry, there: dict[str, set[Time]]) -> Iterator[Problem]:
    """An exchange's source parts have all been made."""
    parameters = dict(zip(entry.body.parameters, entry.reads))
    for call in entry.body.calls:
        spec = parameters.get(call.uses, "")
        if (
            call.kind != "exchange"
            or not spec.endswith("@*")
            or call.constant not in rank.constants
        ):
            continue
        name = spec.removesuffix("@*")
        missing = set(rank.constant(call.constant, entry.time)["slots"]) - there.get(name, set())
        for time in sorted(missing):
            what = f"{entry} needs {_shown((name, time))}, which nothing has written before"
            yield Problem(f"rank {rank.rank}", what)


def _check_updates(where: str, trained: list[Key], updated: dict[Key, int]) -> Iterator[Problem]:
    for key in trained:
        count = updated.pop(key, 0)
        if count != 1:
            yield Problem(where, f"the parameter {_shown(key)} is updated {count} times in a step")
    for key in sorted(updated):
        yield Problem(where, f"{_shown(key)} is updated, but is no trained parameter of this rank")


def _shown(key: Key) -> str:
    return f"{key[0]}{list(key[1])}" if key[1] else key[0]


# results, constants, parts


def _check_results(files: Files) -> Iterator[Problem]:
    """The ranks that the manifest says have the results do have them."""
    wanted = files.manifest["results"]
    owners = [("loss", wanted["loss"]), ("grad_norm", wanted.get("grad_norm"))]
    for name, owner in owners:
        if owner is not None and name not in files.ranks[owner].results:
            yield Problem(f"rank {owner}", f"the manifest says that it has {name}, it has not")
    for name, owner in wanted["metrics"].items():
        if name not in files.ranks[owner].results.get("metrics", {}):
            yield Problem(
                f"rank {owner}", f"the manifest says that it has metric {name}, it has not"
            )


def _check_constants(files: Files) -> Iterator[Problem]:
    """Every constant that a task names has a value at its time; boxes and places are in range."""
    needed = {name: _constants(listing) for name, listing in files.listings.items()}
    for rank in files.ranks:
        for constant, time, call in needed[rank.program]:
            try:
                value = rank.constant(constant, time)
            except KeyError:
                yield Problem(f"rank {rank.rank}", f"{constant} has no value at {list(time)}")
                continue
            if call and not _fits(call, value):
                what = f"{constant} = {value} does not fit {call.kind}({call.arguments})"
                yield Problem(f"rank {rank.rank}", what)


def _constants(listing: Listing) -> list[tuple[str, Time, Call | None]]:
    """Which constants a program's tasks need at which times; the local call that each is for."""
    found: dict[tuple[str, Time, Call | None], None] = {}
    for entry in listing.entries:
        local = {c.constant: c for c in entry.body.calls if c.kind in LOCAL}
        for name in sorted(entry.body.constants):
            found[name, entry.time, local.get(name)] = None
    return list(found)


def _fits(call: Call, value: Any) -> bool:
    """Whether a constant is in the range of `take`(slots, shape) or `chunk`(slots, dim, count,
    shape)."""
    if call.kind == "chunk":
        return 0 <= int(value) < int(call.literals[2])
    slots, shape = call.literals
    inside = all(0 <= a < b <= n for (a, b), n in zip(value, slots))
    return inside and prod(b - a for a, b in value) == prod(shape)


def _check_cover(files: Files) -> Iterator[Problem]:
    """The parts of every parameter and buffer are those of the manifest, and make up the whole."""
    layout = files.manifest.get("state_layout", {})
    known = {name: {_tuples(box) for _, _, box in places} for name, places in layout.items()}
    for rank in files.ranks:
        for entry in (*rank.owned["PARAMETERS"], *rank.owned["BUFFERS"]):
            if entry["box"] not in known.get(entry["name"], ()):
                what = f"its part {entry['box']} of {entry['name']} is not in the manifest"
                yield Problem(f"rank {rank.rank}", what)
    for name, places in layout.items():
        size = prod(n for dim in places[0][1] for n in dim)
        boxes = [[tuple(i) for dim in box for i in dim] for _, _, box in places]
        if sum(prod(b - a for a, b in box) for box in boxes) < size:
            yield Problem("manifest.json", f"the parts of {name} do not cover it")


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value

"""Files: the program's Python files and manifest, as text by file name."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch

from superscaler.dtypes import dtype_name
from superscaler.emit.listing import Entry, Listing
from superscaler.emit.owned import OwnedTables
from superscaler.graph.tensor import PTensor, TensorKind
from superscaler.materialize.program import Program, ValueRef
from superscaler.runtime.by_time import Time, is_table
from superscaler.runtime.program import FORMAT
from superscaler.runtime.structure import structure
from superscaler.units import named_ranks


def write_files(program: Program, listing: Listing, header: dict[str, Any]) -> dict[str, str]:
    """File name -> text of the whole program; `header` goes into the manifest."""
    classes: dict[tuple[Entry, ...], list[int]] = {}
    for rank, entries in sorted(listing.schedules.items()):
        classes.setdefault(tuple(entries), []).append(rank)
    used = {name: function.constants() for name, function in listing.functions.items()}
    files: dict[str, str] = {}
    groups: set[tuple[int, ...]] = set()
    owned = OwnedTables(program, listing.emission.parts)
    for number, (schedule, ranks) in enumerate(classes.items()):
        text = _program_text(listing, schedule, ranks, number, len(classes))
        files[f"program_{number}.py"] = text
        times = _constant_times(schedule, used)
        for rank in ranks:
            of_rank = listing.emission.constants.of_rank
            constants = {name: of_rank(name, rank, ts) for name, ts in times.items()}
            tables = rank_tables(program, owned, rank)
            files[f"rank_{rank}.py"] = _rank_text(rank, number, constants, tables)
            groups.update(_groups(constants))
    header = {"groups": sorted(groups), "state_layout": owned.state_layout, **header}
    files["manifest.json"] = _json(_manifest(program, header))
    return files


def _json(data: dict[str, Any]) -> str:
    """`data` as JSON with a line for each of its entries, and for each entry of a dict in it."""

    def text(value: Any) -> str:
        if not isinstance(value, dict) or not value:
            return json.dumps(value, sort_keys=True)
        rows = (
            f"  {json.dumps(k)}: {json.dumps(v, sort_keys=True)}" for k, v in sorted(value.items())
        )
        return "{\n" + ",\n".join(rows) + "\n }"

    rows = (f" {json.dumps(key)}: {text(value)}" for key, value in sorted(data.items()))
    return "{\n" + ",\n".join(rows) + "\n}\n"


def _groups(constants: dict[str, Any]) -> set[tuple[int, ...]]:
    """The sets of ranks that this rank communicates in."""
    found: set[tuple[int, ...]] = set()
    for name, value in constants.items():
        if name.startswith("group"):
            found.update(value.values() if isinstance(value, dict) else (value,))
    return {group for group in found if len(group) > 1}


def _program_text(
    listing: Listing, schedule: tuple[Entry, ...], ranks: list[int], number: int, count: int
) -> str:
    names = list(dict.fromkeys(name for name, _ in schedule))
    functions = "\n\n".join(listing.functions[name].text(name) for name in names)
    tasks = "\n".join(listing.functions[name].task_text(name) for name in names)
    calls = "\n".join(f'    ("{name}", {time}),' for name, time in schedule)
    return (
        f'"""Program {number + 1} of {count}: {named_ranks(ranks)}. '
        'Written by superscaler compile."""\n\n'
        "import torch\n\nfrom superscaler.runtime import Task\n\n"
        "aten = torch.ops.aten\nss = torch.ops.superscaler\n\n\n"
        f"{functions}\n\nTASKS = {{\n{tasks}\n}}\n\nSCHEDULE = [\n{calls}\n]\n"
    )


def _constant_times(
    schedule: tuple[Entry, ...], used: dict[str, tuple[str, ...]]
) -> dict[str, list[Time]]:
    """Constant -> the time indices at which this schedule needs it."""
    times: dict[str, dict[Time, None]] = {}
    for name, time in schedule:
        for constant in used[name]:
            times.setdefault(constant, {})[time] = None
    return {name: list(ts) for name, ts in sorted(times.items())}


def rank_tables(program: Program, owned: OwnedTables, rank: int) -> str:
    """What a rank's file says beside its constants, as Python source: what the rank holds and
    returns."""
    lines = [
        owned.tables(rank),
        f"RESULTS = {_results(program, rank)!r}",
        f"NEW_BUFFERS = {_new_buffers(program, rank)!r}",
    ]
    return "\n".join(lines) + "\n"


def _rank_text(rank: int, number: int, constants: dict[str, Any], tables: str) -> str:
    parts = [
        f'"""Rank {rank}\'s constants for program_{number}.py."""\n',
        f'PROGRAM = "program_{number}"\nRANK = {rank}',
    ]
    parts.append(f"CONSTANTS = {_constants_text(constants)}")
    parts.append(tables)
    return "\n".join(parts)


def _constants_text(constants: dict[str, Any]) -> str:
    """A line for each constant, and for each time of one that differs by time."""

    def text(value: Any) -> str:
        if not is_table(value) or len(value) < 2:
            return repr(value)
        rows = "".join(f"        {time!r}: {of_time!r},\n" for time, of_time in value.items())
        return f"{{\n{rows}    }}"

    rows = "".join(f"    {name!r}: {text(value)},\n" for name, value in constants.items())
    return f"{{\n{rows}}}" if rows else "{}"


def _reference_key(value: ValueRef) -> tuple[str, Time]:
    """The key of a value that is read at the end of the step."""
    return value.name, tuple(t[0] if isinstance(t, tuple) else 0 for t in value.time)


def _results(program: Program, rank: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for result in program.results:
        if result.owner != rank:
            continue
        if result.name.startswith("metrics."):
            found.setdefault("metrics", {})[result.name[8:]] = _reference_key(result.value)
        else:
            found[result.name] = _reference_key(result.value)
    return found


def _new_buffers(program: Program, rank: int) -> list[Any]:
    if not program.new_buffers:
        return []
    by_name = {own.name: own for own in program.owned}
    return [
        (_reference_key(value), (name, ()))
        for _, value, name in program.new_buffers
        if rank in by_name[name].layout.grid.devices
    ]


def _manifest(program: Program, header: dict[str, Any]) -> dict[str, Any]:
    graph = program.partition.graph
    trained = {u.param for u in graph.updates}
    aliases: dict[str, list[str]] = {}
    for alias, name in sorted(graph.aliases.items()):
        aliases.setdefault(name, []).append(alias)

    def entry(t: PTensor) -> dict[str, Any]:
        return {
            "shape": list(t.shape),
            "dtype": dtype_name(t.dtype),
            "aliases": aliases.get(t.name, []),
        }

    owners = {r.name: r.owner for r in program.results}
    leaves = [_leaf(graph.tensors[t]) if t >= 0 else {"used": False} for t in graph.batch]
    for number, name, value in graph.constants:
        leaves[number] |= {"name": name, "constant": value}
    return {
        "format": FORMAT,
        "torch": torch.__version__,
        "world_size": program.partition.num_devices,
        "parameters": {
            t.name: {**entry(t), "trained": t.id in trained}
            for t in graph.of_kind(TensorKind.PARAM)
        },
        "optimized": graph.optimized,
        "buffers": {t.name: entry(t) for t in graph.of_kind(TensorKind.BUFFER)},
        "batch": {
            "structure": structure(graph.batch_spec),
            "leaves": leaves,
        },
        "results": {
            "loss": owners["loss"],
            "metrics": {n[8:]: o for n, o in owners.items() if n.startswith("metrics.")},
            "grad_norm": owners.get("grad_norm"),
        },
        **header,
    }


def _leaf(tensor: PTensor) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "shape": list(tensor.shape),
        "dtype": dtype_name(tensor.dtype),
        "used": True,
    }


def fingerprint(*texts: str) -> str:
    """A short digest of texts."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]

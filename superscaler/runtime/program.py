"""RankProgram: what one rank loads of an emitted program."""

from __future__ import annotations

import ast
import hashlib
import json
import linecache
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from superscaler.runtime.failures import ProgramError
from superscaler.runtime.handover import taking_over
from superscaler.runtime.runs import with_runs
from superscaler.runtime.shards import Box, Slots, local_shape

FORMAT = 4  # of the manifest and of the emitted files; the emitter writes it to the manifest
REDUCTION_MARKS = {"sum": "+", "max": "^", "logsumexp": "~"}  # after a written value's name
MARKS = "".join(REDUCTION_MARKS.values())
Key = tuple[str, tuple[int, ...]]  # a value: its name and its time index
Source = str | Path | Mapping[str, str]  # a folder, or the files' texts by name


@dataclass(frozen=True, slots=True)
class Task:
    """One function of the program, the values it reads and the values it writes.

    A spec `x` names the value x; `x@0,1` picks positions 0 and 1 of the running task's time index
    as the value's; `x@*` (reads) is the dict of every x written so far; `x+` (writes) adds, `x^`
    (writes) keeps the larger of each element, `x~` (writes) merges partial results of attention.
    """

    function: Callable[..., tuple[Any, ...]]
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Placed:
    """A part of a parameter, of a buffer or of a leaf of the batch (`name`) that a rank holds.

    `memory` is where it rests, `states` where its optimizer states do: "device" or "host".
    """

    key: Key
    name: Any
    slots: Slots
    box: Box
    trained: bool = False
    memory: str = "device"
    states: str = "device"

    @property
    def shape(self) -> tuple[int, ...]:
        """The local shape."""
        return local_shape(self.box)


@dataclass(frozen=True)
class RankProgram:
    """One rank's program: tasks, their order, and what is this rank's own."""

    rank: int
    manifest: Mapping[str, Any]
    tasks: Mapping[str, Task]
    schedule: Sequence[tuple[str, tuple[int, ...]]]
    constants: Mapping[str, Any]
    parameters: tuple[Placed, ...]
    buffers: tuple[Placed, ...]
    inputs: tuple[Placed, ...]
    results: Mapping[str, Any]
    new_buffers: tuple[tuple[Key, Key], ...]
    path: str = field(default="", compare=False)  # of the program's file, as tracebacks name it

    @property
    def world_size(self) -> int:
        """The number of ranks the program was compiled for."""
        return int(self.manifest["world_size"])


def load_rank(source: Source, rank: int, torch_compile: bool = False) -> RankProgram:
    """Rank `rank`'s program out of a folder or of a dict of files.

    `torch_compile`: operators in a row go through `torch.compile`, at the first step, see `runs`.

    Raises ProgramError when a file is missing or malformed, or the program is out of date.
    """
    return _load(_Files(source, torch_compile), rank, {})


def load_tables(
    manifest: dict[str, Any],
    tables: str,
    rank: int,
    tasks: Mapping[str, Task],
    schedule: Sequence[tuple[str, tuple[int, ...]]],
) -> RankProgram:
    """A rank's program without its constants, its tasks known already: `tables` is the source of
    the rest of its file."""
    own: dict[str, Any] = {}
    exec(tables, own)
    code = {"TASKS": tasks, "SCHEDULE": schedule, "__file__": ""}
    return _rank_program(rank, manifest, own, code)


def load_ranks(source: Source, torch_compile: bool = False) -> list[RankProgram]:
    """Every rank's program; equal code is compiled once."""
    files, modules = _Files(source, torch_compile), dict[str, dict[str, Any]]()
    manifest = read_manifest(source)
    return [_load(files, rank, modules, manifest) for rank in range(manifest["world_size"])]


def read_manifest(source: Source) -> dict[str, Any]:
    """The manifest of a program, checked.

    Raises ProgramError when it is missing, malformed, or out of date.
    """
    files = _Files(source)
    try:
        manifest = json.loads(files.text("manifest.json"))
    except ValueError as error:  # also for bytes that are no text
        raise ProgramError(f"{files.path('manifest.json')} is not JSON: {error}") from error
    _check_manifest(manifest, files.path("manifest.json"))
    return dict(manifest)


def digest(text: str) -> str:
    """A short name for a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


class _Files:
    """Texts of a program's files, from a folder or from memory."""

    def __init__(self, source: Source, torch_compile: bool = False) -> None:
        self._torch_compile = torch_compile
        self._texts = source if isinstance(source, Mapping) else None
        self._folder = Path("" if isinstance(source, Mapping) else source)

    def path(self, name: str) -> str:
        return f"<memory>/{name}" if self._texts is not None else str(self._folder / name)

    def text(self, name: str) -> str:
        try:
            return self._read(name)
        except (OSError, KeyError) as error:
            raise ProgramError(
                f"{self.path(name)} is missing: this is no program folder, or an incomplete one; "
                "write it with `superscaler compile` or program.save"
            ) from error

    def _read(self, name: str) -> str:
        return self._texts[name] if self._texts is not None else (self._folder / name).read_text()

    def run(self, name: str) -> tuple[dict[str, Any], str]:
        """The names that a Python file defines, and its path as tracebacks print it."""
        text = self.text(name)
        path = self.path(name)
        if self._texts is not None:
            path = f"<superscaler {digest(text)}>/{name}"
            linecache.cache[path] = (len(text), None, text.splitlines(keepends=True), path)
        space: dict[str, Any] = {"__name__": name.removesuffix(".py"), "__file__": path}
        try:
            tree = ast.parse(text, path)
            if self._torch_compile:
                tree, runs = with_runs(tree, text)
                space.update(runs)
            exec(compile(taking_over(tree), path, "exec"), space)
        except (SyntaxError, NameError, ImportError, AttributeError) as error:
            raise ProgramError(f"{path} cannot be loaded: {error}") from error
        return space, path


def _load(
    files: _Files,
    rank: int,
    modules: dict[str, dict[str, Any]],
    manifest: dict[str, Any] | None = None,
) -> RankProgram:
    if manifest is None:
        manifest = read_manifest(files._texts if files._texts is not None else files._folder)
    if not 0 <= rank < manifest["world_size"]:
        raise ProgramError(f"rank {rank}: the program has ranks 0 to {manifest['world_size'] - 1}")
    own, own_path = files.run(f"rank_{rank}.py")
    try:
        code = _module(files, own["PROGRAM"], modules)
        return _rank_program(rank, manifest, own, code)
    except (KeyError, TypeError, ValueError) as error:
        raise ProgramError(
            f"{own_path} is malformed: {type(error).__name__} {error}; compile the program again"
        ) from error


def _module(files: _Files, name: str, modules: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The names that a program's file defines; read once."""
    if name not in modules:
        modules[name], path = files.run(f"{name}.py")
        modules[name]["__file__"] = path
    return modules[name]


def _rank_program(
    rank: int, manifest: dict[str, Any], own: dict[str, Any], code: dict[str, Any]
) -> RankProgram:
    return RankProgram(
        rank=rank,
        manifest=manifest,
        tasks=code["TASKS"],
        schedule=[(name, tuple(time)) for name, time in code["SCHEDULE"]],
        constants=own.get("CONSTANTS", {}),
        parameters=_placed(own.get("PARAMETERS", ())),
        buffers=_placed(own.get("BUFFERS", ())),
        inputs=_placed(own.get("INPUTS", ())),
        results=own.get("RESULTS", {}),
        new_buffers=tuple(own.get("NEW_BUFFERS", ())),
        path=code["__file__"],
    )


def _placed(entries: Sequence[Mapping[str, Any]]) -> tuple[Placed, ...]:
    return tuple(Placed(**entry) for entry in entries)


_FIELDS = {"world_size": int, "parameters": dict, "buffers": dict, "batch": dict, "results": dict}


def _check_manifest(manifest: Any, path: str) -> None:
    for name, kind in _FIELDS.items():
        if not isinstance(manifest, dict) or not isinstance(manifest.get(name), kind):
            raise ProgramError(
                f"{path} has no field {name!r} of type {kind.__name__}: it is malformed or of "
                "another version; compile the program again"
            )
    if manifest.get("format", FORMAT) != FORMAT:
        raise ProgramError(
            f"{path} is of format {manifest['format']}, this version of superscaler reads format "
            f"{FORMAT}; compile the program again"
        )
    version = str(manifest.get("torch", torch.__version__))
    if version.split(".")[0] != torch.__version__.split(".")[0]:
        raise ProgramError(
            f"{path} was compiled with torch {version}, this is torch {torch.__version__}; "
            "compile the program again"
        )

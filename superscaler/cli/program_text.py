"""A program as text: each rank's schedule, what its tasks do, and what is communicated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from superscaler.runtime.program import RankProgram, load_ranks, read_manifest
from superscaler.units import named_ranks

_CALLS = (
    "all_reduce",
    "all_gather",
    "reduce_scatter",
    "all_to_all",
    "broadcast",
    "send",
    "recv",
    "exchange",
)


@dataclass(frozen=True)
class TaskText:
    """What the text of one emitted function says."""

    num_operators: int
    calls: tuple[tuple[str, str], ...]  # communication and the comment above it


def program_text(source: Any) -> str:
    """The text of a program, from its folder or its files."""
    manifest = read_manifest(source)
    programs = load_ranks(source)
    texts = {program.path: _source_text(source, program) for program in programs}
    lines = list(_header(manifest, programs))
    for path, same in _by_program(programs).items():
        lines += ["", *_one_program(path, same, texts[path])]
    return "\n".join([*lines, ""])


def _source_text(source: Any, program: RankProgram) -> str:
    name = program.path.replace("\\", "/").rpartition("/")[2]
    if isinstance(source, Mapping):
        return str(source[name])
    with open(program.path) as file:
        return file.read()


def _header(manifest: Mapping[str, Any], programs: list[RankProgram]) -> Iterator[str]:
    yield f"{manifest['world_size']} ranks, {len(_by_program(programs))} distinct programs"
    if manifest.get("workload"):
        settings = " ".join(f"--set {k}={v}" for k, v in manifest.get("settings", {}).items())
        yield f"of {manifest['workload']} {settings}".rstrip()
    if str(manifest.get("plan", "")).strip():
        yield "plan:"
        yield from (f"  {line}" for line in str(manifest["plan"]).splitlines())


def _by_program(programs: list[RankProgram]) -> dict[str, list[RankProgram]]:
    found: dict[str, list[RankProgram]] = {}
    for program in programs:
        found.setdefault(program.path, []).append(program)
    return found


def _one_program(path: str, same: list[RankProgram], text: str) -> Iterator[str]:
    first = same[0]
    yield f"{named_ranks([program.rank for program in same])}: {path}"
    numbers = [_held(program) for program in same]
    span = (
        f"{min(numbers):,}"
        if min(numbers) == max(numbers)
        else (f"{min(numbers):,} to {max(numbers):,}")
    )
    yield f"  holds {len(first.parameters)} parameters, {span} elements on a rank"
    yield "  schedule:"
    yield from (f"    {line}" for line in _schedule(first))
    yield "  tasks:"
    for name, task in _task_texts(text).items():
        if name in first.tasks:
            yield from _task(name, task)


def _held(program: RankProgram) -> int:
    total = 0
    for placed in program.parameters:
        count = 1
        for size in placed.shape:
            count *= size
        total += count
    return total


def _schedule(program: RankProgram, width: int = 92) -> Iterator[str]:
    """The schedule's entries, wrapped; conversions are shown as `c3(0)`."""
    line = ""
    for name, time in program.schedule:
        entry = f"{name.replace('convert_', 'c')}{_time(time)}"
        if line and len(line) + len(entry) + 2 > width:
            yield line
            line = ""
        line += f"{'  ' if line else ''}{entry}"
    if line:
        yield line


def _time(time: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, time))})" if time else ""


def _task_texts(text: str) -> dict[str, TaskText]:
    """Every function of an emitted file, by name, in order."""
    found: dict[str, TaskText] = {}
    name, comment, operators = "", "", 0
    calls: list[tuple[str, str]] = []
    for line in [*text.splitlines(), "def "]:
        stripped = line.strip()
        if line.startswith("def "):
            if name:
                found[name] = TaskText(operators, tuple(calls))
            name, comment, operators, calls = line[4:].partition("(")[0], "", 0, []
        elif line.startswith("    ") and name:
            if stripped.startswith(("#", '"""')):
                comment = stripped.strip('#" ')
            call = _communication(stripped)
            if call:
                calls.append((call, comment))
            operators += "aten." in stripped or " ss." in stripped
            operators += stripped.startswith("ctx.optimizer_step(")
    return found


def _communication(line: str) -> str:
    for call in _CALLS:
        if f"ctx.{call}(" in line or f"ctx.{call}_coalesced(" in line:
            return call
    return ""


def _task(name: str, task: TaskText) -> Iterator[str]:
    if task.num_operators or not task.calls:
        yield f"    {name}: {task.num_operators} operators"
        for call, comment in task.calls:
            yield f"      {call}: {comment}"
        return
    for call, comment in task.calls:
        yield f"    {name}: {call}: {comment}"

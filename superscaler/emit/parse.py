"""Parse: what the files of an emitted program say, read back without running them."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from superscaler.errors import MaterializeError
from superscaler.runtime.by_time import Time, is_table, look_up

Key = tuple[str, Time]

COLLECTIVES = (
    "all_reduce",
    "all_gather",
    "reduce_scatter",
    "all_to_all",
    "broadcast",
    "all_reduce_coalesced",
    "all_gather_coalesced",
    "reduce_scatter_coalesced",
)
MESSAGES = ("send", "recv", "send_coalesced", "recv_coalesced", "exchange")
LOCAL = ("take", "chunk")


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a `ctx` primitive: the variables it assigns, the first that it uses.

    `operator` is what the file says that it communicates, mostly the operator that made it.

    `constant` names who takes part (a group, a rank, an exchange) or what differs by rank;
    `arguments` is the text of all others, variables as `_`; `literals` are those of a local call.
    """

    kind: str
    assigns: tuple[str, ...]
    uses: str
    constant: str
    arguments: str
    literals: tuple[Any, ...]
    operator: str = ""


@dataclass(frozen=True, slots=True)
class Body:
    """An emitted function: its parameters, what it says it does, and its calls, in order."""

    parameters: tuple[str, ...]
    doc: str
    calls: tuple[Call, ...]
    updates: tuple[tuple[str, bool], ...]  # parameters stepped: (name, whether at the task's time)
    constants: frozenset[str]


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a schedule: the task's function and time index, what it reads and writes."""

    name: str
    time: Time
    body: Body
    reads: tuple[str, ...]
    writes: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.name}({', '.join(str(t) for t in self.time)})"


@dataclass(frozen=True)
class Listing:
    """A program file: the schedule of every rank that runs it."""

    name: str
    entries: tuple[Entry, ...]
    ranks: list[int] = field(default_factory=list)

    @cached_property
    def events(self) -> tuple[tuple[int, Call], ...]:
        """All communication, in order: (entry number, call)."""
        kinds = (*COLLECTIVES, *MESSAGES)
        return tuple(
            (i, call)
            for i, entry in enumerate(self.entries)
            for call in entry.body.calls
            if call.kind in kinds
        )


@dataclass(frozen=True, slots=True)
class RankFile:
    """The constants of one rank; `owned` are its tables' entries by table name."""

    rank: int
    program: str
    constants: dict[str, Any]
    owned: dict[str, tuple[dict[str, Any], ...]]
    results: dict[str, Any]
    new_buffers: tuple[tuple[Key, Key], ...]

    def constant(self, name: str, time: Time) -> Any:
        """A constant's value for a task's time index. Raises KeyError where it has none."""
        value = self.constants[name]
        return look_up(value, time) if is_table(value) else value


@dataclass(frozen=True, slots=True)
class Files:
    """All files of a program."""

    manifest: dict[str, Any]
    listings: dict[str, Listing]
    ranks: tuple[RankFile, ...]


def key_of(spec: str, entry: Entry) -> Key:
    """The value that a task's spec (without `+`, `^` and `*`) names at its time index."""
    name, _, positions = spec.partition("@")
    if not positions:
        return name, ()
    return name, tuple(
        int(p[1:]) if p.startswith("#") else entry.time[int(p)] for p in positions.split(",")
    )


def parse_files(texts: Mapping[str, str]) -> Files:
    """Read a program's files. Raises MaterializeError naming the file that is missing or broken."""
    manifest = json.loads(_text(texts, "manifest.json"))
    memo: dict[str, Any] = {}
    ranks = tuple(_rank(texts, r, memo) for r in range(manifest["world_size"]))
    listings: dict[str, Listing] = {}
    for rank in ranks:
        if rank.program not in listings:
            name = f"{rank.program}.py"
            listings[rank.program] = _listing(rank.program, _text(texts, name))
        listings[rank.program].ranks.append(rank.rank)
    return Files(manifest, listings, ranks)


def _text(texts: Mapping[str, str], name: str) -> str:
    if name not in texts:
        raise MaterializeError(f"{name}: this file of the program is missing")
    return texts[name]


# rank files

_ASSIGNMENT = re.compile(r"^([A-Z_]+) = ", re.MULTILINE)
_TABLES = ("PARAMETERS", "BUFFERS", "INPUTS")


def _rank(texts: Mapping[str, str], rank: int, memo: dict[str, Any]) -> RankFile:
    name = f"rank_{rank}.py"
    pieces = _ASSIGNMENT.split(_text(texts, name))
    sources = dict(zip(pieces[1::2], pieces[2::2]))
    try:
        return RankFile(
            rank,
            _literal(sources["PROGRAM"], memo),
            ast.literal_eval(sources["CONSTANTS"]),
            {t: _table(sources[t], memo) for t in _TABLES},
            _literal(sources["RESULTS"], memo),
            tuple(_literal(sources["NEW_BUFFERS"], memo)),
        )
    except (KeyError, ValueError, SyntaxError) as error:
        raise MaterializeError(f"{name} cannot be read: {type(error).__name__}: {error}") from error


def _literal(source: str, memo: dict[str, Any]) -> Any:
    """The value of a literal; ranks share most of them."""
    if source not in memo:
        memo[source] = ast.literal_eval(source.strip())
    return memo[source]


def _table(source: str, memo: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    """A list of entries, one a line."""
    lines = source.strip().splitlines()
    if lines[0] != "[" or lines[-1] != "]":
        return tuple(_literal(source, memo))
    return tuple(_literal(line.strip().rstrip(","), memo) for line in lines[1:-1])


# program files


def _listing(name: str, text: str) -> Listing:
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise MaterializeError(f"{name}.py cannot be read: {error}") from error
    lines = text.splitlines()
    found: dict[str, Body] = {}
    tasks: dict[str, tuple[Body, tuple[str, ...], tuple[str, ...]]] = {}
    schedule: list[tuple[str, Time]] = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            found[node.name] = _body(node, lines)
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            target = node.targets[0].id
            if target == "TASKS" and isinstance(node.value, ast.Dict):
                tasks = _tasks(name, node.value, found)
            elif target == "SCHEDULE":
                schedule = ast.literal_eval(node.value)
    for task, _ in schedule:
        if task not in tasks:
            raise MaterializeError(f"{name}.py: the schedule names {task}, which is no task")
    entries = (Entry(task, tuple(time), *tasks[task]) for task, time in schedule)
    return Listing(name, tuple(entries))


def _tasks(
    name: str, table: ast.Dict, bodies: dict[str, Body]
) -> dict[str, tuple[Body, tuple[str, ...], tuple[str, ...]]]:
    tasks = {}
    for key, value in zip(table.keys, table.values):
        assert isinstance(key, ast.Constant)
        assert isinstance(value, ast.Call)
        function = value.args[0]
        if not isinstance(function, ast.Name) or function.id not in bodies:
            raise MaterializeError(f"{name}.py: task {key.value!r} has no function")
        specs = {k.arg: tuple(ast.literal_eval(k.value)) for k in value.keywords}
        tasks[str(key.value)] = (
            bodies[function.id],
            specs.get("reads", ()),
            specs.get("writes", ()),
        )
    return tasks


def _body(node: ast.FunctionDef, lines: list[str]) -> Body:
    doc = ast.get_docstring(node) or ""
    calls: list[Call] = []
    updates: list[tuple[str, bool]] = []
    constants: set[str] = set()
    for statement in node.body:
        if not any("ctx" in line for line in lines[statement.lineno - 1 : statement.end_lineno]):
            continue
        for inner in ast.walk(statement):
            if isinstance(inner, ast.Call) and _is_context(inner.func):
                comment = doc or lines[statement.lineno - 2].strip()
                call = _call(statement, inner, comment)
                calls.append(call)
                constants.update({call.constant} - {""})
                if call.kind == "optimizer_step":
                    updates += _updates(inner.args[0])
            elif isinstance(inner, ast.Subscript) and _is_name(inner.value, "ctx"):
                constants.add(str(ast.literal_eval(inner.slice)))
    parameters = tuple(a.arg for a in node.args.args[1:])
    return Body(
        parameters,
        doc,
        tuple(calls),
        tuple(updates),
        frozenset(constants),
    )


def _is_name(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _is_context(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and _is_name(node.value, "ctx")


def _operator(comment: str) -> str:
    """What a conversion's comment starts with.

    >>> _operator("# layers.0.fc2.mm: partial sum over tp -> whole")
    'layers.0.fc2.mm'
    """
    name, colon, _ = comment.removeprefix("# ").partition(": ")
    return name if colon else ""


def _call(statement: ast.stmt, call: ast.Call, comment: str) -> Call:
    assert isinstance(call.func, ast.Attribute)
    assigns: tuple[str, ...] = ()
    if isinstance(statement, ast.Assign):
        names = [n for n in ast.walk(statement.targets[0]) if isinstance(n, ast.Name)]
        assigns = tuple(n.id for n in names)
    texts = [a for a in call.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    uses = call.args[0].id if call.args and isinstance(call.args[0], ast.Name) else ""
    arguments = ", ".join(
        [_shown(a) for a in call.args if a not in texts]
        + [f"{k.arg}={_shown(k.value)}" for k in call.keywords]
    )
    constant = str(texts[0].value) if texts else ""
    kind = call.func.attr
    literals = [a for a in call.args[1:] if a not in texts] if kind in LOCAL else []
    values = tuple(ast.literal_eval(a) for a in literals)
    return Call(kind, assigns, uses, constant, arguments, values, _operator(comment))


def _shown(node: ast.AST) -> str:
    """Literals as text; a variable, whatever its name, as `_`."""
    if isinstance(node, (ast.Tuple, ast.List)):
        return f"({', '.join(_shown(item) for item in node.elts)})"
    if isinstance(node, ast.Constant):
        return repr(node.value)
    return node.attr if isinstance(node, ast.Attribute) else "_"


def _updates(node: ast.AST) -> list[tuple[str, bool]]:
    """The keys of an optimizer step: "name" or ("name", ctx.time)."""
    assert isinstance(node, ast.Dict)
    found = []
    for key in node.keys:
        timed = isinstance(key, ast.Tuple)
        name = key.elts[0] if isinstance(key, ast.Tuple) else key
        assert isinstance(name, ast.Constant)
        found.append((str(name.value), timed))
    return found

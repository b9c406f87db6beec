"""Runs: operators in a row, without communication between them, go through `torch.compile`.

    a = aten.mm.default(x, w)
    del x                              a, b = _run0(x, w)
    h = aten.add.Tensor(a, 1)     ->   del x
    b = aten.gelu.default(h)
    del h

A run ends where the program communicates or reads a rank's constants, at kernels of our own or of
the user (they are fused already, and lay out what they return as they like), and where the numbered
module changes (layers.0, layers.1, ...), so that equal layers are equal runs, which are compiled
once. What a run is given is freed after it, not inside.

torch has no public class for what compiling raises: `torch._dynamo.exc.TorchDynamoException` is
that of its tracer, its code generator and the compilers it calls (tried with torch 2.11, 2.13 and
2.14).
"""

from __future__ import annotations

import ast
import builtins
import linecache
import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import count
from typing import Any

import torch

from superscaler.runtime.failures import ProgramError

_GLOBAL = {"aten", "torch", *dir(builtins)}  # what a run sees beside what it is given
_COMPILED = ("aten.", "float(", "complex(")  # what a run may call
_LEAST = 2  # operators in a run: one alone is a kernel already
_BLOCK = re.compile(r"#\s*((?:[A-Za-z_]\w*\.)*\d+)\b")  # a numbered module, in a comment

_NUMBERS = count()  # of the functions that were defined

Run = Callable[..., tuple[torch.Tensor, ...]]


def with_runs(tree: ast.Module, text: str) -> tuple[ast.Module, dict[str, Run]]:
    """The program file `text` with calls of runs in its functions, and the runs by name."""
    blocks = _blocks(text.splitlines())
    found: dict[str, Run] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            node.body = list(_rewritten(node.body, blocks, found))
    return ast.fix_missing_locations(tree), found


def _blocks(lines: list[str]) -> list[str]:
    """Per line: the numbered module that it belongs to, as the comment above it says."""
    found, block = [""], ""
    for line in lines:
        if line.strip().startswith("#"):
            match = _BLOCK.match(line.strip())
            block = match[1] if match else ""
        elif line.startswith("def "):
            block = ""
        found.append(block)
    return found


def _rewritten(
    body: list[ast.stmt], blocks: list[str], found: dict[str, Run]
) -> Iterator[ast.stmt]:
    last = {name: i for i, statement in enumerate(body) for name in _names([statement], ast.Load)}
    at = 0
    while at < len(body):
        end = _end_of_run(body, at, blocks)
        statements = body[at:end]
        if sum(isinstance(s, ast.Assign) for s in statements) >= _LEAST:
            yield from _called(statements, {n for n, i in last.items() if i >= end}, found)
        else:
            yield from statements or body[at : at + 1]
        at = max(end, at + 1)


def _end_of_run(body: list[ast.stmt], at: int, blocks: list[str]) -> int:
    """The first statement from `at` on that is not in a run with the one at `at`."""
    end, block = at, blocks[body[at].lineno]
    while end < len(body):
        statement = body[end]
        is_free = isinstance(statement, ast.Delete) and end > at
        if not is_free and not (_is_kernel(statement) and blocks[statement.lineno] == block):
            break
        end += 1
    return end


def _is_kernel(statement: ast.stmt) -> bool:
    """Whether a statement is `names = aten...(...)`, of tensors and numbers that it shows."""
    if not isinstance(statement, ast.Assign) or not isinstance(statement.value, ast.Call):
        return False
    calls = [ast.unparse(n) for n in ast.walk(statement.value) if isinstance(n, ast.Call)]
    names = {node.id for node in ast.walk(statement.value) if isinstance(node, ast.Name)}
    return "ctx" not in names and all(f.startswith(_COMPILED) for f in calls)


def _called(
    statements: list[ast.stmt], read_after: set[str], found: dict[str, Run]
) -> list[ast.stmt]:
    """The call that stands for a run, and what is deleted after it."""
    kernels = [s for s in statements if isinstance(s, ast.Assign)]
    made = dict.fromkeys(_names(kernels, ast.Store))
    gone = dict.fromkeys(_names(statements, ast.Del))
    given = _given(kernels)
    kept = [n for n in made if n not in gone and n in read_after]
    run = compiled_run(_text(kernels, given, kept))
    name = next((n for n, known in found.items() if known is run), f"_run{len(found)}")
    found[name] = run
    results = "".join(f"{n}, " for n in kept) + "= " if kept else ""
    dead = [n for n in gone if n not in made]
    lines = [f"{results}{name}({', '.join(given)})", *([f"del {', '.join(dead)}"] if dead else [])]
    code = ast.parse("\n".join(lines)).body
    for part in (part for new in code for part in ast.walk(new)):
        ast.copy_location(part, statements[0])
    return code


def _given(kernels: list[ast.Assign]) -> list[str]:
    """The variables that a run reads before it has assigned them."""
    made = set(_GLOBAL)
    found: dict[str, None] = {}
    for statement in kernels:
        found.update(dict.fromkeys(n for n in _names([statement], ast.Load) if n not in made))
        made.update(_names([statement], ast.Store))
    return list(found)


def _text(kernels: list[ast.Assign], given: list[str], kept: list[str]) -> str:
    """The function `run`: equal for runs that are equal but for their variables' names."""
    names = dict.fromkeys([*given, *_names(kernels, ast.Store)])
    short = {name: f"x{i}" for i, name in enumerate(names)}
    copies = [ast.parse(ast.unparse(s)).body[0] for s in kernels]
    lines = [ast.unparse(_Renamed(short).visit(s)) for s in copies]
    parameters = ", ".join(short[n] for n in given)
    results = "".join(short[n] + ", " for n in kept)
    return "\n    ".join([f"def run({parameters}):", *lines, f"return ({results})"]) + "\n"


def _names(statements: Sequence[ast.stmt], context: type[ast.expr_context]) -> list[str]:
    """The variables that statements read, assign or delete, in their order."""
    nodes = (node for statement in statements for node in ast.walk(statement))
    return [n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, context)]


class _Renamed(ast.NodeTransformer):
    def __init__(self, names: dict[str, str]) -> None:
        self.names = names

    def visit_Name(self, node: ast.Name) -> ast.Name:
        node.id = self.names.get(node.id, node.id)
        return node


@lru_cache(maxsize=4096)
def compiled_run(text: str) -> Run:
    """The function `run` of a text; compiled at the first call for tensors of one form."""
    known: dict[Any, Run] = {}

    def call(*given: torch.Tensor) -> tuple[torch.Tensor, ...]:
        form = tuple((x.shape, x.stride(), x.dtype, x.device) for x in given)
        if form in known:
            return known[form](*given)
        made = torch.compile(_defined(text), fullgraph=True, dynamic=False)
        from torch._dynamo.exc import TorchDynamoException  # slow, seldom needed

        try:
            result = made(*given)
        except TorchDynamoException as error:  # not what the operators raise when they run
            lines = str(error).strip().splitlines() or [""]
            raise ProgramError(
                f"torch.compile failed on {text.count(' = ')} operators in a row "
                f"({type(error).__name__}: {lines[0][:200]}); run without torch_compile "
                "(--torch-compile)"
            ) from error
        known[form] = made
        return result

    return call


def _defined(text: str) -> Run:
    """Anew for each form: torch counts how often one function is compiled, and stops. Functions
    without source lines are one to torch 2.11."""
    space: dict[str, Any] = {"torch": torch, "aten": torch.ops.aten}
    path = f"<superscaler run {next(_NUMBERS)}>"
    linecache.cache[path] = (len(text), None, text.splitlines(keepends=True), path)
    exec(compile(text, path, "exec"), space)
    made: Run = space["run"]
    return made

"""What commands print: results to stdout; progress, notes and errors to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.text import Text

Say = Callable[[str], None]


def print_error(error: BaseException) -> None:
    """`error: ...` in red on stderr."""
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    console.print(Text.assemble(("error: ", "bold red"), str(error)))


def print_json(data: Any) -> None:
    """JSON on stdout, for programs."""
    sys.stdout.write(json.dumps(data, indent=1) + "\n")


def print_text(text: str) -> None:
    """Plain text on stdout, as it is."""
    sys.stdout.write(text if text.endswith("\n") else text + "\n")


def print_table(*renderables: Any) -> None:
    """Tables and marked-up lines on stdout; without a terminal lines are not cut to its width."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
    for renderable in renderables:
        console.print(renderable)


def print_notes(notes: Iterable[str]) -> None:
    """Notes on stderr, one a line."""
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    for note in notes:
        console.print(f"[yellow]note:[/] {escape(note)}")


def print_progress(text: str) -> None:
    """What goes on now, on stderr; it stays there."""
    Console(stderr=True, highlight=False).print(f"{text} ...", soft_wrap=True, markup=False)


@contextmanager
def progress(first: str) -> Iterator[Say]:
    """A spinner on stderr that says what is being done; plain lines where there is no terminal."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        print_progress(first)
        yield print_progress
        return
    with console.status(escape(first)) as status:
        yield lambda text: status.update(escape(text))

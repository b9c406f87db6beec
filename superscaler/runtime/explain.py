"""What to say when a task raises: the task, the operator, and its line in the user's model."""

from __future__ import annotations

import linecache
from types import TracebackType

from superscaler.runtime.failures import PeerFailure, TaskFailure
from superscaler.runtime.program import RankProgram
from superscaler.runtime.timeline import Entry


class TaskExplainer:
    """A context in which an error of a task becomes a TaskFailure; `entry` is the running task."""

    def __init__(self, program: RankProgram) -> None:
        self.entry: Entry | None = None
        self._program = program

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: object, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.entry is None or not isinstance(error, Exception) or isinstance(error, PeerFailure):
            return
        raise TaskFailure(
            f"rank {self._program.rank}, task {self.entry.name} {self.entry.time}"
            f"{_place(traceback, self._program.path)}: {type(error).__name__}: {error}"
        ) from error


def _place(traceback: TracebackType | None, path: str) -> str:
    """The comment above the emitted line that raised, and that line."""
    line = 0
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == path:
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    if not line:
        return ""
    comment, number = "", line
    while number and not (text := linecache.getline(path, number).strip()).startswith("def "):
        if text.startswith("#"):
            comment = text.lstrip("# ")
            break
        number -= 1
    where = f"{path}:{line}: {linecache.getline(path, line).strip()}"
    return f", in {comment} ({where})" if comment else f" ({where})"

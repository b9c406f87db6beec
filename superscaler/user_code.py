"""User code: what it raises becomes an error of ours that names the user's line."""

from __future__ import annotations

import os
import sysconfig
import traceback
from pathlib import Path

import torch

from superscaler.errors import SuperScalerError, WorkloadError

_OURS = os.path.dirname(os.path.abspath(__file__)) + os.sep
_TORCH = os.path.dirname(os.path.abspath(torch.__file__)) + os.sep
_PYTHON = sysconfig.get_paths()["stdlib"] + os.sep


class UserCode:
    """A context in which what the user's code raises becomes an error naming their line: that of
    the file `path`, or else the innermost that is neither ours nor torch's.

    With `unless_ours`, what raises without any line of theirs passes through.
    """

    def __init__(
        self,
        what: str,
        path: Path | None = None,
        kind: type[SuperScalerError] = WorkloadError,
        unless_ours: bool = False,
    ) -> None:
        self.what = what
        self.path = path
        self.kind = kind
        self.unless_ours = unless_ours

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, Exception) or isinstance(error, SuperScalerError):
            return
        line, is_theirs = _line(error, self.path)
        if is_theirs or not self.unless_ours:
            raise self.kind(f"{self.what} {type(error).__name__}: {error} (at {line})") from error


def _line(error: Exception, path: Path | None) -> tuple[str, bool]:
    """The innermost line of the user's that led to the error, as "FILE:LINE: code"; where there is
    none, the innermost of all."""
    if isinstance(error, SyntaxError) and error.filename is not None:
        return f"{error.filename}:{error.lineno}: {(error.text or '').strip()}", True
    frames = traceback.extract_tb(error.__traceback__)
    theirs = (lambda name: name == str(path)) if path is not None else is_user_file
    own = [frame for frame in frames if theirs(frame.filename)]
    last = (own or frames)[-1]
    return f"{last.filename}:{last.lineno}: {last.line}", bool(own)


def is_our_file(path: str) -> bool:
    """Whether the file is one of this package's."""
    return path.startswith(_OURS)


def is_user_file(path: str) -> bool:
    """Whether the file is neither torch's, nor this package's, nor Python's, nor generated."""
    if path.startswith(_PYTHON):
        return "-packages" in path and not path.startswith((_TORCH, _OURS))
    return not path.startswith((_TORCH, _OURS, "<"))

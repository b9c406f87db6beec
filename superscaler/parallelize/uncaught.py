"""Uncaught errors of a script: its own lines and the message, told by one process of a launch."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from types import TracebackType

from superscaler.errors import SuperScalerError
from superscaler.user_code import is_our_file, is_user_file

Error = BaseException
Hook = Callable[[type[Error], Error, TracebackType | None], object]
Tell = Callable[[str], bool]


def show_uncaught(is_told_elsewhere: Tell) -> None:
    """From now on, show errors that nobody catches without the frames of torch and of ours.

    `is_told_elsewhere(message)` says whether another process tells of it; then this one is quiet.
    """
    if not isinstance(sys.excepthook, _Uncaught):
        sys.excepthook = _Uncaught(sys.excepthook, is_told_elsewhere)


class _Uncaught:
    """A `sys.excepthook`."""

    def __init__(self, otherwise: Hook, is_told_elsewhere: Tell) -> None:
        self.otherwise = otherwise
        self.is_told_elsewhere = is_told_elsewhere

    def __call__(self, kind: type[Error], error: Error, trace: TracebackType | None) -> None:
        if not isinstance(error, Exception):
            self.otherwise(kind, error, trace)
        elif self.is_told_elsewhere(f"{kind.__name__}: {error}"):
            return
        elif isinstance(error, SuperScalerError) or _is_raised_in_a_call_of_ours(trace):
            sys.stderr.write(_told(error))
        else:
            self.otherwise(kind, error, trace)


def _told(error: Exception) -> str:
    """The user's lines that led to the error, and the error."""
    lines = _user_frames(error)
    if isinstance(error, SuperScalerError):
        lines += _user_frames(error.__cause__) if error.__cause__ is not None else []
        message = [f"error: {error}\n"]
    else:
        message = traceback.format_exception_only(error)
    header = ["Traceback (most recent call last):\n"] if lines else []
    return "".join([*header, *traceback.format_list(lines), *message])


def _user_frames(error: BaseException) -> list[traceback.FrameSummary]:
    frames = traceback.extract_tb(error.__traceback__)
    return [frame for frame in frames if is_user_file(frame.filename)]


def _is_raised_in_a_call_of_ours(trace: TracebackType | None) -> bool:
    """Whether the user's code, called by ours, raised: a step under plain python."""
    files = [frame.filename for frame in traceback.extract_tb(trace)]
    own = [f for f in files if is_our_file(f) or is_user_file(f)]
    return any(is_our_file(f) for f in own) and is_user_file(own[-1])

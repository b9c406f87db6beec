"""The user's source lines: innermost frames outside torch and this package."""

from __future__ import annotations

import os
import re
import traceback
from collections.abc import Sequence
from types import TracebackType

from superscaler.user_code import is_user_file

_FRAME = re.compile(r'File "([^"]+)", line (\d+), in (\S+)')
_UNKNOWN = "(unknown line)"


def source_of(stack_trace: str) -> str:
    """The innermost user frame of an fx stack trace, as "file.py:12, in forward"; "" if none."""
    for path, line, function in reversed(_FRAME.findall(stack_trace)):
        if is_user_file(path):
            return f"{os.path.basename(path)}:{line}, in {function}"
    return ""


def user_line(trace: TracebackType | None) -> str:
    """The innermost user frame of a Python traceback, in the same form."""
    return line_of(traceback.extract_tb(trace))


def line_of(stack: Sequence[traceback.FrameSummary]) -> str:
    """The innermost user frame of a stack, in the same form."""
    for frame in reversed(stack):
        if is_user_file(frame.filename):
            return f"{os.path.basename(frame.filename)}:{frame.lineno}, in {frame.name}"
    return _UNKNOWN

"""The user's source lines: innermost frames outside torch and this package."""

from __future__ import annotations

import os
import re
import sysconfig
import traceback
from types import TracebackType

import torch

_FRAME = re.compile(r'File "([^"]+)", line (\d+), in (\S+)')
_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_TORCH = os.path.dirname(os.path.abspath(torch.__file__)) + os.sep
_PYTHON = sysconfig.get_paths()["stdlib"] + os.sep
_UNKNOWN = "(unknown line)"


def source_of(stack_trace: str) -> str:
    """The innermost user frame of an fx stack trace, as "file.py:12, in forward"; "" if none."""
    for path, line, function in reversed(_FRAME.findall(stack_trace)):
        if is_user_file(path):
            return f"{os.path.basename(path)}:{line}, in {function}"
    return ""


def user_line(trace: TracebackType | None) -> str:
    """The innermost user frame of a Python traceback, in the same form."""
    for frame in reversed(traceback.extract_tb(trace)):
        if is_user_file(frame.filename):
            return f"{os.path.basename(frame.filename)}:{frame.lineno}, in {frame.name}"
    return _UNKNOWN


def is_user_file(path: str) -> bool:
    """Whether the file is neither torch's, nor this package's, nor Python's, nor generated."""
    if path.startswith(_PYTHON):
        return "-packages" in path and not path.startswith((_TORCH, _OURS))
    return not path.startswith((_TORCH, _OURS, "<"))

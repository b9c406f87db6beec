"""Changes of an emitted program's text, for tests that plant faults."""

from __future__ import annotations

import re

Files = dict[str, str]


def edit(files: Files, name: str, pattern: str, replacement: str, count: int = 1) -> Files:
    """A copy of a program in which the first matches are replaced."""
    text, found = re.subn(pattern, replacement, files[name], count=count)
    assert found >= 1, f"{name} has no {pattern}"
    return files | {name: text}


def alone(files: Files, rank: int) -> Files:
    """A copy in which one rank has a program file of its own, `program_own.py`."""
    program = re.search(r'PROGRAM = "(\w+)"', files[f"rank_{rank}.py"])
    assert program is not None
    changed = edit(files, f"rank_{rank}.py", r'PROGRAM = "\w+"', 'PROGRAM = "program_own"')
    return changed | {"program_own.py": files[f"{program[1]}.py"]}

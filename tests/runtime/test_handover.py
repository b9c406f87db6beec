"""A task's arguments are the task's alone: its `del` frees them, however many there are."""

from __future__ import annotations

import ast
import weakref
from typing import Any

import pytest

from superscaler.runtime.handover import MOST_ARGUMENTS, caller, taking_over


class Value:
    """Something that can be watched."""


def task(count: int) -> Any:
    """A function that deletes its last argument and says whether it is gone."""
    names = [f"v{i}" for i in range(count)]
    text = f'def task(ctx, {", ".join(names)}):\n    """Doc."""\n'
    text += f"    watched = ctx({names[-1]})\n    del {names[-1]}\n    return watched() is None\n"
    space: dict[str, Any] = {}
    exec(compile(taking_over(ast.parse(text)), "task.py", "exec"), space)
    return space["task"]


@pytest.mark.parametrize("count", [1, 5, MOST_ARGUMENTS - 1, MOST_ARGUMENTS, 100, 300])
def test_what_dies_in_a_task_is_freed_by_its_del(count: int) -> None:
    call, function = caller(("dies",) * count), task(count)
    values: dict[int, Any] = {i: Value() for i in range(count)}
    assert call(function, weakref.ref, values, tuple(range(count)))
    assert values == {}
    assert function.__doc__ == "Doc."


def test_what_stays_is_still_there() -> None:
    values: dict[int, Any] = {0: Value()}
    assert not caller(("stays",))(task(1), weakref.ref, values, (0,))
    assert list(values) == [0]


def test_lines_keep_their_numbers() -> None:
    names = ", ".join(f"v{i}" for i in range(40))
    tree = taking_over(ast.parse(f"def task(ctx, {names}):\n    return 1 / 0\n"))
    space: dict[str, Any] = {}
    exec(compile(tree, "task.py", "exec"), space)
    with pytest.raises(ZeroDivisionError) as raised:
        space["task"](None, [0] * 40)
    assert raised.tb.tb_next.tb_lineno == 2

"""Handing over: a task's arguments are the task's alone, so that its `del` really frees them."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from superscaler.runtime.pending import resolve

# CPython hands the references of a call's arguments over to the callee as long as it keeps them on
# its stack; calls of more arguments go through a tuple, which holds them all to the end of the call
# (compile.c, STACK_USE_GUIDELINE, in 3.11 to 3.14).
MOST_ARGUMENTS = 30

_FETCH = {
    "stays": "resolve(values[reads[{0}]])",
    "dies": "resolve(values.pop(reads[{0}]))",
    "all stay": "{{t: resolve(values[i]) for t, i in reads[{0}].items()}}",
    "all die": "{{t: resolve(values.pop(i)) for t, i in reads[{0}].items()}}",
}


@lru_cache(maxsize=4096)
def caller(codes: Sequence[str]) -> Callable[..., Any]:
    """A function of (function, ctx, values, reads) that fetches a task's arguments and calls it.

    It is generated, with positional arguments: with `function(*arguments)` the argument tuple
    would keep what dies in the task. Beyond MOST_ARGUMENTS they are handed over as a list, for
    which `taking_over` has prepared the function.
    """
    fetched = [_FETCH[code].format(i) for i, code in enumerate(codes)]
    if 1 + len(codes) > MOST_ARGUMENTS:
        text = f"function(ctx, [{', '.join(fetched)}])"
    else:
        text = f"function({', '.join(['ctx', *fetched])})"
    made: Callable[..., Any] = eval(
        f"lambda function, ctx, values, reads: {text}", {"resolve": resolve}
    )
    return made


def taking_over(tree: ast.Module) -> ast.Module:
    """Functions of more than MOST_ARGUMENTS take a list in place of all but the first.

    `def f(ctx, a, b): ...` -> `def f(ctx, _given): a, b = _given; _given.clear(); ...`
    """
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and len(node.args.args) > MOST_ARGUMENTS:
            names = ", ".join(argument.arg for argument in node.args.args[1:])
            node.args.args[1:] = [ast.arg("_given")]
            start = 1 if ast.get_docstring(node) else 0
            node.body[start:start] = ast.parse(f"{names} = _given\n_given.clear()").body
            for new in (node.args.args[1], *node.body[start : start + 2]):
                for part in ast.walk(new):
                    ast.copy_location(part, node)
    return ast.fix_missing_locations(tree)

"""Plans by text: a YAML file, a plan that ships, or a policy call: `zero(dp=2, stage=3)`."""

from __future__ import annotations

import ast
import inspect
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path

from superscaler.errors import PlanError
from superscaler.plan import Plan
from superscaler.policies import beyond, context, parallel
from superscaler.policies.offload import offload

POLICIES: dict[str, Callable[..., Plan]] = {
    f.__name__: f
    for f in (
        parallel.data_parallel,
        parallel.zero,
        parallel.megatron,
        parallel.pipeline,
        parallel.hybrid,
        beyond.bidirectional,
        beyond.coshard,
        beyond.interlaced,
        beyond.three_f_one_b,
        beyond.vocabulary_parallel,
        context.context_parallel,
        offload,
    )
}
WAY = "expected a call with numbers and texts, such as 'zero(dp=2, stage=3)'"


def parse_plan(text: str) -> Plan:
    """The plan that `text` names. Raises PlanError saying what was expected."""
    if not text.strip():
        raise PlanError(
            f"plan {text!r}: expected a YAML file, the name of a plan that ships, or a policy call "
            "such as 'zero(dp=2, stage=3)', found no text"
        )
    if text.endswith((".yaml", ".yml")) or "(" not in text:
        return Plan.load(text)
    return _made(text, _call(text))


def as_plan(given: Plan | str | Path) -> Plan:
    """The plan that is meant: itself, its file, or a policy call as text.

    Raises PlanError for another kind of value.
    """
    if isinstance(given, (str, Path)):
        return parse_plan(str(given))
    if not isinstance(given, Plan):
        raise PlanError(
            f"plan: expected a plan, its file, or a policy call as text, found {repr(given)[:80]}"
        )
    return given


def _made(text: str, call: ast.Call) -> Plan:
    """The plan of a policy call, whose arguments may be policy calls."""
    name = call.func.id if isinstance(call.func, ast.Name) else ""
    if name not in POLICIES:
        raise PlanError(f"plan {text!r}: no policy {name!r}; known: {', '.join(sorted(POLICIES))}")
    policy = POLICIES[name]
    known = inspect.signature(policy).parameters
    arguments = {key: _value(text, node) for key, node in _named(text, call, name, known)}
    for key, value in arguments.items():
        if key not in known:
            raise PlanError(
                f"plan {text!r}: {name} has no argument {key!r}; it takes {', '.join(known)}"
            )
        if (key == "plan") != isinstance(value, Plan):
            raise PlanError(
                f"plan {text!r}: {name} takes {'a policy call' if key == 'plan' else 'a value'} as "
                f"{key}, found {value if key == 'plan' else 'a policy call'!r}"
            )
    missing = [k for k, p in known.items() if p.default is p.empty and k not in arguments]
    if missing:
        raise PlanError(f"plan {text!r}: {name} needs {', '.join(missing)}")
    return policy(**arguments)


def _named(
    text: str, call: ast.Call, name: str, known: Collection[str]
) -> list[tuple[str, ast.expr]]:
    """The arguments of a policy call by name, each once."""
    stars = [k for k in call.keywords if k.arg is None]
    by_place = [a for a in call.args if isinstance(a, ast.Starred)]
    if stars or by_place or len(call.args) > 1 or (call.args and "plan" not in known):
        raise PlanError(f"plan {text!r}: {name} takes its arguments by name: {', '.join(known)}")
    named = [("plan", a) for a in call.args] + [(str(k.arg), k.value) for k in call.keywords]
    for key, count in Counter(key for key, _ in named).items():
        if count > 1:
            raise PlanError(f"plan {text!r}: {name} has {key} {count} times; leave one of them")
    return named


def _value(text: str, node: ast.expr) -> object:
    if isinstance(node, ast.Call):
        return _made(text, node)
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):  # TypeError: {[]: 1}, say
        raise PlanError(f"plan {text!r}: {WAY}") from None


def _call(text: str) -> ast.Call:
    try:
        node = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # of null bytes; too deep
        raise PlanError(f"plan {text!r}: {WAY}") from None
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        raise PlanError(f"plan {text!r}: {WAY}")
    return node

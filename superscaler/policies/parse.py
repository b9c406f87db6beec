"""Plans by text: a YAML file's path, or a policy call such as `zero(dp=2, stage=3)`."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from pathlib import Path

from superscaler.errors import PlanError
from superscaler.plan import Plan
from superscaler.policies import parallel

POLICIES: dict[str, Callable[..., Plan]] = {
    f.__name__: f
    for f in (
        parallel.data_parallel,
        parallel.zero,
        parallel.megatron,
        parallel.pipeline,
        parallel.hybrid,
    )
}


def parse_plan(text: str) -> Plan:
    """The plan that `text` names. Raises PlanError saying what was expected."""
    if text.endswith((".yaml", ".yml")) or "(" not in text:
        return Plan.load(_find(text))
    name, arguments = _call(text)
    if name not in POLICIES:
        raise PlanError(f"plan {text!r}: no policy {name!r}; known: {', '.join(sorted(POLICIES))}")
    policy = POLICIES[name]
    known = inspect.signature(policy).parameters
    for key in arguments:
        if key not in known:
            raise PlanError(
                f"plan {text!r}: {name} has no argument {key!r}; it takes {', '.join(known)}"
            )
    missing = [k for k, p in known.items() if p.default is p.empty and k not in arguments]
    if missing:
        raise PlanError(f"plan {text!r}: {name} needs {', '.join(missing)}")
    return policy(**arguments)


def _find(text: str) -> Path:
    """A plan file, here or among those that ship."""
    shipped = Path(__file__).parent.parent / "plans" / f"{text.removesuffix('.yaml')}.yaml"
    return shipped if not Path(text).exists() and shipped.exists() else Path(text)


def _call(text: str) -> tuple[str, dict[str, object]]:
    way = "expected a call with numbers and texts, such as 'zero(dp=2, stage=3)'"
    try:
        node = ast.parse(text.strip(), mode="eval").body
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.args:
            raise PlanError(f"plan {text!r}: {way}")
        return node.func.id, {str(k.arg): ast.literal_eval(k.value) for k in node.keywords}
    except (SyntaxError, ValueError):
        raise PlanError(f"plan {text!r}: {way}") from None

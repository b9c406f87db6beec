"""Selection: operators by module path, name and phase; axes by name or by the spots they touch."""

from __future__ import annotations

import re
from collections.abc import Collection
from difflib import get_close_matches
from functools import lru_cache

from superscaler.errors import PlanError, TransformError
from superscaler.graph.axis import Axes
from superscaler.graph.graph import Graph
from superscaler.graph.operator import Operator, Phase
from superscaler.transform.partition import Partition

Selection = tuple[int, ...]  # operator ids, ascending
LONGEST_RANGE = 10_000  # numbers of a pattern's {0-11}


@lru_cache(maxsize=4096)
def _pattern(pattern: str) -> re.Pattern[str]:
    """`*` stands for one path component (or part of one), `**` for any number of them, also none,
    `{0-11}` for one of these numbers."""
    text = re.escape(pattern).replace(r"\*\*\.", r"(?:.*\.)?").replace(r"\*\*", ".*")
    text = text.replace(r"\*", "[^.]*")
    return re.compile(re.sub(r"\\\{(\d+)\\-(\d+)\\\}", _numbers, text))


def _numbers(found: re.Match[str]) -> str:
    first, last = int(found.group(1)), int(found.group(2))
    if not first <= last < first + LONGEST_RANGE:
        raise PlanError(
            f"{{{first}-{last}}} in a pattern: expected a range that goes up, of {LONGEST_RANGE:,} "
            f"numbers at most, for example {{{min(first, last)}-{min(first, last) + 11}}}"
        )
    return f"(?:{'|'.join(str(n) for n in range(first, last + 1))})"


def matches(path: str, pattern: str) -> bool:
    """Whether a dotted path, or one of its parents, matches the pattern.

    >>> matches("layers.3.mlp.fc1", "layers.*.mlp"), matches("layers.3", "layers.*.mlp")
    (True, False)
    >>> [i for i in range(20) if matches(f"layers.{i}.mlp", "layers.{8-11}")]
    [8, 9, 10, 11]
    """
    return matched_prefix(path, pattern) is not None


def matched_prefix(path: str, pattern: str) -> str | None:
    """The shortest parent of `path` (or itself) that the pattern matches."""
    pieces = path.split(".")
    compiled = _pattern(pattern)
    for n in range(1, len(pieces) + 1):
        prefix = ".".join(pieces[:n])
        if compiled.fullmatch(prefix):
            return prefix
    return None


def select(graph: Graph, *patterns: str, phase: str = "") -> Selection:
    """The operators whose module path or name matches one of the patterns.

    Raises TransformError when one of them matches nothing.
    """
    if not patterns:
        raise TransformError("no operator is selected; give at least one pattern, such as **")
    found: set[int] = set()
    for pattern in patterns:
        own = {op.id for op in graph.operators if _selected(op, pattern, phase)}
        if not own:
            raise TransformError(_nothing(graph, pattern, phase))
        found |= own
    return tuple(sorted(found))


def check_modules(
    graph: Graph, patterns: Collection[str], what: str, phase: Phase | None = None
) -> None:
    """Raises PlanError, which begins with `what`, for a pattern that matches no module with
    operators (of a phase)."""
    if not patterns:
        return
    modules = {op.module for op in graph.operators if phase in (None, op.phase)}
    for pattern in patterns:
        if not any(matches(module, pattern) for module in modules):
            names = sorted(m for m in modules if m)
            close = get_close_matches(pattern, names, 3, 0.3) or names[:3]
            raise PlanError(
                f"{what}: no module with operators matches {pattern!r}; expected module paths "
                f"(* matches one component), for example {', '.join(close)}"
            )


def select_axis(partition: Partition, axis: str) -> Selection:
    """The operators that can be split on an axis: those of forward, backward and update alike.

    `axis` is an axis name, or `parameter:dim` with a pattern for the parameter.
    Raises PlanError when there is no such axis.
    """
    spots = find_axes(partition.graph, partition.axes, axis)
    wanted = {a for spot in spots for a in spot}
    return tuple(
        op
        for op, own in enumerate(partition.axes.operators)
        if any(it.axis in wanted and not it.frozen for it in own.iters)
    )


def _selected(op: Operator, pattern: str, phase: str) -> bool:
    if phase and op.phase.value != phase:
        return False
    return matches(op.module, pattern) or matches(op.name, pattern)


def _nothing(graph: Graph, pattern: str, phase: str) -> str:
    names = sorted({op.module for op in graph.operators if op.module})
    close = get_close_matches(pattern, names, 3, 0.3) or names[:3]
    what = f" in phase {phase}" if phase else ""
    return (
        f"no operator matches {pattern!r}{what}; "
        "expected module paths or operator names (* matches one component), "
        f"for example {', '.join(close)}"
    )


def find_axes(graph: Graph, axes: Axes, spec: str) -> list[tuple[int, ...]]:
    """The axes that `spec` names: for each spot it matches, the axes there, major to minor.

    `spec` is an axis name, or `tensor:dim` with a pattern for the tensor's name (of a tied
    parameter: any of its names).
    Raises PlanError when there is none.
    """
    if spec in axes.names:
        return [(axes.names[spec],)]
    name, _, dim = spec.rpartition(":")
    if not name or not dim.split(".")[0].isdigit():
        raise PlanError(_no_axis(axes, spec))
    number, _, factor = dim.partition(".")
    found = []
    tied = {kept for alias, kept in graph.aliases.items() if _pattern(name).fullmatch(alias)}
    for tensor in graph.tensors:
        is_meant = tensor.name in tied or _pattern(name).fullmatch(tensor.name)
        if not is_meant or int(number) >= len(tensor.shape):
            continue
        slots = [axes.slots[tensor.id][s] for s in axes.dim_slots(tensor.id, int(number))]
        if factor:
            slots = slots[int(factor) : int(factor) + 1]
        if slots:
            found.append(tuple(slots))
    if not found:
        raise PlanError(_no_axis(axes, spec))
    return found


def _no_axis(axes: Axes, spec: str) -> str:
    names = [n for n in axes.names if "axis" not in n]
    close = get_close_matches(spec, names, 3, 0.4) or names[:4]
    return (
        f"no axis {spec!r} in this graph; expected an axis name or parameter:dim, for example "
        f"{', '.join(close)} (`superscaler axes` lists all)"
    )

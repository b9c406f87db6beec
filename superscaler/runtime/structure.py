"""The structure of a batch as text: what is compared when a program is given a batch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch.utils._pytree import TreeSpec


def structure(spec: TreeSpec) -> str:
    """Containers by kind, with the names in them; every leaf is a star.

    >>> from torch.utils._pytree import tree_structure
    >>> structure(tree_structure({"x": 1, "pair": (2, [3])}))
    'dict(x=*, pair=tuple(*, list(*)))'
    """
    if spec.is_leaf():
        return "*"
    kind, names = _names(spec.type, spec.context)
    children = [structure(child) for child in spec.children()]
    if names is not None:
        children = [f"{name}={child}" for name, child in zip(names, children, strict=True)]
    return f"{kind}({', '.join(children)})"


def _names(kind: Any, context: Any) -> tuple[str, Iterable[Any] | None]:
    """What a container is called, and its keys or fields."""
    fields = getattr(context, "_fields", None)  # of a NamedTuple, the context is its class
    if fields is not None:
        return context.__name__, fields
    return kind.__name__, context if kind is dict else None

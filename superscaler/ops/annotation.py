"""Annotation strings: most rules in one line.

    "m k+, k n -> m n"             mm: k is contracted (sum)
    "b h q d, b h k+ d -> ..."     one word per dim
    "(b s) d -> b s d"             a dim that is a product of axes
    "b d^ -> b d^"                 ^ frozen: cannot be split
    "v@+ d, n -> n d"              @ indexed (needs its offset), + partial sums when split
    "b k> -> b"                    > partial maxima when split
    "1" or "_"                     a dim of size 1, or one that is broadcast: no axis
    "..., ... -> ..."              the leading dims, shared and broadcast from the right

Marks may stand at any occurrence of an axis; they hold for the axis.
"""

from __future__ import annotations

import re
from dataclasses import replace
from math import prod

from superscaler.graph.rule import Dims, IterationAxis

_MARKS = {"+": "sum", ">": "max"}
_TOKEN = re.compile(r"\(([^)]*)\)|(\S+)")


def parse(
    annotation: str,
    inputs: tuple[tuple[int, ...], ...],
    outputs: tuple[tuple[int, ...], ...],
    sizes: dict[str, int] | None = None,
) -> tuple[tuple[Dims, ...], tuple[Dims, ...], dict[str, IterationAxis]]:
    """The operands' Dims and the axes of `annotation` for these shapes.

    `sizes` gives axes that the shapes leave open (a factor of a product). Raises ValueError when
    the annotation does not fit the shapes.
    """
    left, right = annotation.split("->")
    texts = [t.strip() for t in left.split(",")] if left.strip() else []
    out_texts = [t.strip() for t in right.split(",")]
    shapes = (*inputs, *outputs)
    if len(texts) != len(inputs) or len(out_texts) != len(outputs):
        raise ValueError(
            f"annotation {annotation!r} does not fit {len(inputs)} -> {len(outputs)} tensors"
        )
    axes: dict[str, IterationAxis] = {}
    known = dict(sizes or {})
    operands = [
        _operand(text, shape, axes, known) for text, shape in zip(texts + out_texts, shapes)
    ]
    axes = {name: replace(axis, size=known[name]) for name, axis in axes.items() if name in known}
    dims = [
        tuple(tuple(a for a in dim if axes[a].size != 1) for dim in operand) for operand in operands
    ]
    axes = {name: axis for name, axis in axes.items() if axis.size != 1}
    return tuple(dims[: len(inputs)]), tuple(dims[len(inputs) :]), axes


def _operand(
    text: str, shape: tuple[int, ...], axes: dict[str, IterationAxis], known: dict[str, int]
) -> list[list[str]]:
    """The factors of each dim of one operand; sizes found on the way go into `known`."""
    words = [
        match.group(1) if match.group(1) is not None else match.group(2)
        for match in _TOKEN.finditer(text)
    ]
    if "..." in words:
        at = words.index("...")
        count = len(shape) - (len(words) - 1)
        words[at : at + 1] = [f"...{count - i}" for i in range(count)]
    if len(words) != len(shape):
        raise ValueError(f"{text!r} has {len(words)} dims, the tensor has {len(shape)}")
    return [_dim(word, size, axes, known) for word, size in zip(words, shape)]


def _dim(word: str, size: int, axes: dict[str, IterationAxis], known: dict[str, int]) -> list[str]:
    if word in ("1", "_") or size == 1 and " " not in word and word.rstrip("+>@^") not in known:
        name = word.rstrip("+>@^")
        if name not in ("1", "_"):
            axes.setdefault(name, IterationAxis(size=1))
            _mark(word, name, axes)
        return []
    names = []
    for factor in word.split():
        name = factor.rstrip("+>@^")
        axes.setdefault(name, IterationAxis(size=0))
        _mark(factor, name, axes)
        names.append(name)
    if size == 1 and all(known.get(n, 1) != 1 for n in names):
        return []  # broadcast
    unknown = [n for n in names if n not in known]
    if len(unknown) == 1:
        rest = prod(known[n] for n in names if n in known)
        known[unknown[0]], remainder = divmod(size, rest)
        if remainder:
            raise ValueError(f"dim {word!r} of size {size} is not a multiple of {rest}")
    if unknown[1:] or prod(known[n] for n in names) != size:
        raise ValueError(f"dim {word!r} does not fit size {size} (known: {known})")
    return names


def _mark(factor: str, name: str, axes: dict[str, IterationAxis]) -> None:
    for mark in factor[len(name) :]:
        if mark == "@":
            axes[name] = replace(axes[name], indexed=True)
        elif mark == "^":
            axes[name] = replace(axes[name], frozen=True)
        else:
            axes[name] = replace(axes[name], reduce=_MARKS[mark])

"""Factoring the dims of two shapes of one extent into the factors they share."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

from superscaler.graph.rule import Dims
from superscaler.ops.build import RuleBuilder, Shape


@dataclass(slots=True)
class _Dim:
    """What is left of one dim: its majors and minors found so far, and the size between them."""

    left: int
    majors: list[str]
    minors: list[str]

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.majors, *reversed(self.minors))


def common_factors(build: RuleBuilder, left: Shape, right: Shape) -> tuple[Dims, Dims]:
    """The Dims of two shapes whose elements are the same in row-major order.

    (4096,) and (4, 1024) give ((a, b),) and ((a,), (b,)). Where dims cross, as in (3, 2) and
    (2, 3), each side has frozen axes of its own.

    >>> build = RuleBuilder()
    >>> common_factors(build, (4096, 6), (4, 1024, 2, 3))
    ((('f0', 'f1'), ('f2', 'f3')), (('f0',), ('f1',), ('f2',), ('f3',)))
    >>> common_factors(RuleBuilder(), (3, 2), (2, 3))
    ((('l0',), ('l1',)), (('r0',), ('r1',)))
    """
    if 0 in left or 0 in right:
        return build.dims("l", left, frozen=True), build.dims("r", right, frozen=True)
    ours = [_Dim(n, [], []) for n in left]
    theirs = [_Dim(n, [], []) for n in right]
    i = j = 0
    while i < len(ours) and j < len(theirs):
        i2, j2 = _group(left, right, i, j)
        _factor_group(build, ours[i:i2], theirs[j:j2])
        i, j = i2, j2
    return _finish(build, ours, "l"), _finish(build, theirs, "r")


def _group(left: Shape, right: Shape, i: int, j: int) -> tuple[int, int]:
    """The ends of the shortest runs of dims, from i and j, with equal products."""
    x, y = left[i], right[j]
    i, j = i + 1, j + 1
    while x != y:
        if x < y:
            x, i = x * left[i], i + 1
        else:
            y, j = y * right[j], j + 1
    return i, j


def _factor_group(build: RuleBuilder, ours: list[_Dim], theirs: list[_Dim]) -> None:
    """Peel common factors off, majors first, then minors where a major pair has none."""
    a = [d for d in ours if d.left != 1]
    b = [d for d in theirs if d.left != 1]
    while a and b and (size := gcd(a[0].left, b[0].left)) > 1:
        name = _factor(build, size)
        for side in (a, b):
            side[0].majors.append(name)
            side[0].left //= size
            if side[0].left == 1:
                side.pop(0)
    while a and b and (size := gcd(a[-1].left, b[-1].left)) > 1:
        name = _factor(build, size)
        for side in (a, b):
            side[-1].minors.append(name)
            side[-1].left //= size
            if side[-1].left == 1:
                side.pop()


def _factor(build: RuleBuilder, size: int) -> str:
    return build.axis(f"f{len(build.axes)}", size)[0]


def _finish(build: RuleBuilder, dims: list[_Dim], prefix: str) -> Dims:
    """The factors of every dim; what could not be shared is frozen."""
    for d, dim in enumerate(dims):
        dim.majors += build.axis(f"{prefix}{d}", dim.left, frozen=True)
    return tuple(dim.names for dim in dims)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A slice that is one of `count` equal chunks of a dim, and of it every `step`-th element.

    The dim is the product (count, k, step) and the slice fixes the first and the last factor.
    """

    count: int
    number: int
    step: int
    offset: int

    def bounds(self, length: int) -> tuple[int, int]:
        """Start and end of the slice where its local length is `length`."""
        start = self.number * length * self.step
        return start + self.offset, start + length * self.step


def chunk_of(size: int, start: int, length: int, step: int) -> Chunk | None:
    """The slice of `length` elements from `start` as a Chunk of a dim; None when it is not one.

    >>> chunk_of(12, 4, 4, 1)
    Chunk(count=3, number=1, step=1, offset=0)
    >>> chunk_of(12, 1, 11, 1)
    """
    if length <= 0 or size % (length * step):
        return None
    number, offset = divmod(start, length * step)
    if offset >= step:
        return None
    return Chunk(size // (length * step), number, step, offset)

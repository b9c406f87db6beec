"""RVD: layouts over a grid of distinct devices as (replicas, partial values, splits) of each dim.

A state says of every dim of a fine grid whether the tensor is replicated along it, holds partial
values, or is split on a slot. Collectives are transitions between states; the cheapest sequence is
a shortest path (SuperScaler, arXiv 2301.08984, section 4.3).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import permutations
from math import log2, prod

import numpy as np

from superscaler.cluster import Cluster, Link
from superscaler.transform.partition import REPLICATE, VALUE

MAX_PERMUTED_DIMS = 5
COLLECTIVE_REDUCTIONS = ("sum", "max")  # others are made point to point


@dataclass(frozen=True)
class SpaceLayout:
    """A layout over space only: `devices` are distinct; `roles` and `sizes` as in Layout."""

    devices: np.ndarray
    roles: tuple[int, ...]
    sizes: tuple[int, ...]
    reduce: str


@dataclass(frozen=True, slots=True)
class State:
    """`splits[slot]` are the fine grid dims that split the slot, major to minor; `values` the dims
    of partial values; all other dims replicate. `moved` tells if the data is at the reader's."""

    splits: tuple[tuple[int, ...], ...]
    values: frozenset[int]
    moved: bool


@dataclass(frozen=True, slots=True)
class Step:
    """One communication (or local) step on the fine grid.

    `kind`: all_reduce, all_gather, reduce_scatter, all_to_all, chunk or move; `dims` are the grid
    dims that form the groups, major to minor; `slot` is the one gathered or scattered, `split` the
    one cut by all_to_all; `before` and `after` are the local slot sizes.
    """

    kind: str
    dims: tuple[int, ...]
    slot: int
    split: int
    moved: bool
    before: tuple[int, ...]
    after: tuple[int, ...]


@dataclass(frozen=True)
class Path:
    """Steps from one layout to another over fine grids: `source` devices, then `target` devices."""

    source: np.ndarray
    target: np.ndarray
    steps: tuple[Step, ...]
    reduce: str
    cost_us: float


@dataclass(frozen=True)
class _Problem:
    shape: tuple[int, ...]
    sizes: tuple[int, ...]
    item_bytes: int
    links: tuple[Link, ...]  # per fine dim, at the producer's; the move's link comes last
    start: State
    goal: State
    reduce: str


PathCache = dict[object, tuple[tuple[Step, ...], float] | None]


def find_path(
    source: SpaceLayout, target: SpaceLayout, item_bytes: int, cluster: Cluster, cache: PathCache
) -> Path | None:
    """The cheapest sequence of steps between two layouts, None when no regular one exists."""
    fine = _common_grid(source, target)
    if fine is None:
        return None
    problem, here, there = _problem(source, target, fine, item_bytes, cluster)
    if problem not in cache:
        cache[problem] = _search(problem)
    found = cache[problem]
    if found is None:
        return None
    return Path(here, there, found[0], source.reduce, found[1])


Fine = tuple[tuple[int, ...], list[list[int]], list[list[int]], np.ndarray, np.ndarray]


def _common_grid(source: SpaceLayout, target: SpaceLayout) -> Fine | None:
    """Fine shape, the fine dims of each source and target dim, and both device arrays on it."""
    a, b = source.devices, target.devices
    if a.size != b.size or a.ndim > MAX_PERMUTED_DIMS or b.ndim > MAX_PERMUTED_DIMS:
        return None
    same = set(a.ravel().tolist()) == set(b.ravel().tolist())
    for order in permutations(range(b.ndim)):
        turned = b.transpose(order) if b.ndim else b
        if same and not np.array_equal(turned.ravel(), a.ravel()):
            continue
        factors = _refine(a.shape, turned.shape)
        if factors is None:
            continue
        shape, mine, theirs = factors
        back: list[list[int]] = [[] for _ in range(b.ndim)]
        for position, dim in enumerate(order):
            back[dim] = theirs[position]
        return shape, mine, back, a.reshape(shape), turned.reshape(shape)
    return None


def _refine(
    a: tuple[int, ...], b: tuple[int, ...]
) -> tuple[tuple[int, ...], list[list[int]], list[list[int]]] | None:
    """The common refinement of two shapes of one extent: sizes, and the factors of each dim."""
    shape: list[int] = []
    mine: list[list[int]] = [[] for _ in a]
    theirs: list[list[int]] = [[] for _ in b]
    i = j = 0
    x = y = 1
    while True:
        while x == 1 and i < len(a):
            x, i = a[i], i + 1
        while y == 1 and j < len(b):
            y, j = b[j], j + 1
        if x == 1 or y == 1:
            return (tuple(shape), mine, theirs) if x == y else None
        small = min(x, y)
        if max(x, y) % small:
            return None
        mine[i - 1].append(len(shape))
        theirs[j - 1].append(len(shape))
        shape.append(small)
        x, y = x // small, y // small


def _problem(
    source: SpaceLayout, target: SpaceLayout, fine: Fine, item_bytes: int, cluster: Cluster
) -> tuple[_Problem, np.ndarray, np.ndarray]:
    shape, mine, theirs, here, there = fine
    moves = not np.array_equal(here, there)
    links = tuple(
        cluster.link(np.moveaxis(here, d, 0).reshape(shape[d], -1)[:, 0].tolist())
        for d in range(len(shape))
    )
    across = cluster.link([int(here.flat[0]), int(there.flat[0])])
    start = _state(source, mine, moved=not moves)
    goal = _state(target, theirs, moved=True)
    every = (*links, across)
    problem = _Problem(shape, source.sizes, item_bytes, every, start, goal, source.reduce)
    return problem, here, there


def _state(layout: SpaceLayout, factors: list[list[int]], moved: bool) -> State:
    splits: list[list[int]] = [[] for _ in layout.sizes]
    values: set[int] = set()
    for role, fine in zip(layout.roles, factors):
        if role == VALUE:
            values.update(fine)
        elif role != REPLICATE:
            splits[role] += fine
    return State(tuple(tuple(s) for s in splits), frozenset(values), moved)


def _search(problem: _Problem) -> tuple[tuple[Step, ...], float] | None:
    """Dijkstra over states."""
    best = {problem.start: 0.0}
    queue: list[tuple[float, int, State, tuple[Step, ...]]] = [(0.0, 0, problem.start, ())]
    pushed = 0
    while queue:
        cost, _, state, steps = heapq.heappop(queue)
        if state == problem.goal:
            return steps, cost
        if cost > best[state]:
            continue
        for after, step, extra in _transitions(problem, state):
            total = cost + extra
            if total < best.get(after, float("inf")):
                best[after] = total
                pushed += 1
                heapq.heappush(queue, (total, pushed, after, (*steps, step)))
    return None


def _local(problem: _Problem, state: State) -> tuple[int, ...] | None:
    """The local slot sizes in a state; None when a slot does not divide evenly."""
    found = []
    for size, dims in zip(problem.sizes, state.splits):
        parts = prod(problem.shape[d] for d in dims)
        if size % parts:
            return None
        found.append(size // parts)
    return tuple(found)


def _transitions(problem: _Problem, state: State) -> Iterator[tuple[State, Step, float]]:
    before = _local(problem, state)
    if before is None:
        return
    for kind, dims, slot, split, after in _moves(problem, state):
        sizes = _local(problem, after)
        if sizes is None:
            continue
        step = Step(kind, dims, slot, split, state.moved, before, sizes)
        yield after, step, _cost_us(problem, step)


Candidate = tuple[str, tuple[int, ...], int, int, State]


def _moves(problem: _Problem, state: State) -> Iterator[Candidate]:
    if not state.moved:
        yield "move", (), -1, -1, replace(state, moved=True)
    yield from _reductions(problem, state)
    used = {d for dims in state.splits for d in dims} | state.values
    for d in range(len(problem.shape)):
        if d not in used:
            for slot in range(len(state.splits)):
                yield "chunk", (d,), slot, -1, replace(state, splits=_put(state.splits, slot, (d,)))
    for slot, dims in enumerate(state.splits):
        for cut in range(len(dims)):
            kept, gone = dims[:cut], dims[cut:]
            freed = _set(state.splits, slot, kept)
            yield "all_gather", gone, slot, -1, replace(state, splits=freed)
            for other in range(len(state.splits)):
                if other != slot:
                    yield (
                        "all_to_all",
                        gone,
                        slot,
                        other,
                        replace(state, splits=_put(freed, other, gone)),
                    )


def _reductions(problem: _Problem, state: State) -> Iterator[Candidate]:
    if problem.reduce not in COLLECTIVE_REDUCTIONS:
        return
    ordered = tuple(sorted(state.values))
    groups = {ordered, *((d,) for d in ordered)} - {()}
    for dims in sorted(groups):
        rest = state.values - set(dims)
        yield "all_reduce", dims, -1, -1, replace(state, values=rest)
        for slot in range(len(state.splits)):
            splits = _put(state.splits, slot, dims)
            yield "reduce_scatter", dims, slot, -1, replace(state, values=rest, splits=splits)


def _put(
    splits: tuple[tuple[int, ...], ...], slot: int, dims: tuple[int, ...]
) -> tuple[tuple[int, ...], ...]:
    return _set(splits, slot, splits[slot] + dims)


def _set(
    splits: tuple[tuple[int, ...], ...], slot: int, dims: tuple[int, ...]
) -> tuple[tuple[int, ...], ...]:
    return (*splits[:slot], dims, *splits[slot + 1 :])


def _cost_us(problem: _Problem, step: Step) -> float:
    """Alpha-beta time of a step: ring volume, logarithmic latency; local steps are nearly free."""
    count = prod(problem.shape[d] for d in step.dims)
    inside = prod(step.before) * problem.item_bytes
    outside = prod(step.after) * problem.item_bytes
    if step.kind == "chunk":
        return 0.01 + outside * 1e-6
    if step.kind == "move":
        return problem.links[-1].transfer_us(inside)
    slowest = min((problem.links[d] for d in step.dims), key=lambda link: link.gbytes_per_s)
    volume = {
        "all_reduce": 2 * inside * (count - 1) / count,
        "all_gather": outside * (count - 1) / count,
        "reduce_scatter": inside * (count - 1) / count,
        "all_to_all": inside * (count - 1) / count,
    }[step.kind]
    return (
        slowest.latency_us * log2(count)
        + volume / (slowest.gbytes_per_s * 1e3)
        + 0.001 * volume / 1e6
    )

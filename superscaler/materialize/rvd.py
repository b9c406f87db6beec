"""RVD: layouts over a grid of distinct devices as (replicas, partial values, splits) of each dim.

A state says of every dim of a fine grid whether the tensor is replicated along it, holds partial
values, or is split on a slot. Collectives are transitions between states; the cheapest sequence is
a shortest path (SuperScaler, arXiv 2301.08984, section 4.3).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations
from math import inf, log2, prod

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


Splits = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class State:
    """`splits[slot]` are the fine grid dims that split the slot, major to minor; `values` the dims
    of partial values; all other dims replicate. `moved` tells if the data is at the reader's."""

    splits: Splits
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
    local_of: dict[Splits, tuple[int, ...] | None] = {}
    best = {problem.start: 0.0}
    queue: list[tuple[float, int, State, tuple[Step, ...]]] = [(0.0, 0, problem.start, ())]
    pushed = 0
    while queue:
        cost, _, state, steps = heapq.heappop(queue)
        if state == problem.goal:
            return steps, cost
        if cost > best[state]:
            continue
        before = _local(problem, state.splits, local_of)
        if before is None:
            continue
        for kind, dims, slot, split, after in _moves(problem, state):
            known = best.get(after, inf)
            sizes = _local(problem, after.splits, local_of) if known > cost else None
            if sizes is None:
                continue
            step = Step(kind, dims, slot, split, state.moved, before, sizes)
            total = cost + _cost_us(problem, step)
            if total < known:
                best[after] = total
                pushed += 1
                heapq.heappush(queue, (total, pushed, after, (*steps, step)))
    return None


def _local(
    problem: _Problem, splits: Splits, known: dict[Splits, tuple[int, ...] | None]
) -> tuple[int, ...] | None:
    """The local slot sizes under these splits; None when a slot does not divide evenly."""
    if splits not in known:
        parts = [prod(problem.shape[d] for d in dims) for dims in splits]
        is_even = not any(size % n for size, n in zip(problem.sizes, parts))
        known[splits] = tuple(s // n for s, n in zip(problem.sizes, parts)) if is_even else None
    return known[splits]


Candidate = tuple[str, tuple[int, ...], int, int, State]


def _moves(problem: _Problem, state: State) -> Iterator[Candidate]:
    splits, values, moved = state.splits, state.values, state.moved
    if not moved:
        yield "move", (), -1, -1, State(splits, values, True)
    yield from _reductions(problem, state)
    used = {d for dims in splits for d in dims} | values
    for d in range(len(problem.shape)):
        if d not in used:
            for slot in range(len(splits)):
                after = State(_put(splits, slot, (d,)), values, moved)
                yield "chunk", (d,), slot, -1, after
    for slot, dims in enumerate(splits):
        for cut in range(len(dims)):
            kept, gone = dims[:cut], dims[cut:]
            freed = _set(splits, slot, kept)
            yield "all_gather", gone, slot, -1, State(freed, values, moved)
            for other in range(len(splits)):
                if other != slot:
                    after = State(_put(freed, other, gone), values, moved)
                    yield "all_to_all", gone, slot, other, after


def _reductions(problem: _Problem, state: State) -> Iterator[Candidate]:
    if problem.reduce not in COLLECTIVE_REDUCTIONS:
        return
    ordered = tuple(sorted(state.values))
    groups = {ordered, *((d,) for d in ordered)} - {()}
    for dims in sorted(groups):
        rest = state.values.difference(dims)
        yield "all_reduce", dims, -1, -1, State(state.splits, rest, state.moved)
        for slot in range(len(state.splits)):
            after = State(_put(state.splits, slot, dims), rest, state.moved)
            yield "reduce_scatter", dims, slot, -1, after


def _put(splits: Splits, slot: int, dims: tuple[int, ...]) -> Splits:
    return _set(splits, slot, splits[slot] + dims)


def _set(splits: Splits, slot: int, dims: tuple[int, ...]) -> Splits:
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

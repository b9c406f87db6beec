"""Segments: operators that one device runs together, as one task per time index.

Operators of one grid and label form a segment if no path leaves the segment and returns to it, and
if no operator inside waits for several time parts of another inside. So the tasks (segment, time
index) always have an acyclic order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from superscaler.transform.layout import Layout, input_layout, source_layout
from superscaler.transform.match import ALL, TimeMatch, match_time
from superscaler.transform.partition import MICROBATCH, Grid, Partition

NO_BARRIER = 1 << 30


ORDERED = -1  # in place of an input's position: the user asked for the order
OVERWRITTEN = -2  # the reader, an update, overwrites a parameter that the producer reads


@dataclass(frozen=True)
class Edge:
    """Operator `reader` reads, as its input `position`, what `producer` writes; or ORDERED, or
    OVERWRITTEN."""

    producer: int
    reader: int
    position: int
    match: TimeMatch

    @property
    def kind(self) -> str:
        """ "order" for what the user asked for, "data" for what must be."""
        return "order" if self.position == ORDERED else "data"


@dataclass(frozen=True)
class Segment:
    """Operators (ids, in execution order) that run together on `grid`, once per time index.
    `contents` names them in an error."""

    id: int
    name: str
    label: str
    grid: Grid
    operators: tuple[int, ...]
    contents: str = ""

    @cached_property
    def time_shape(self) -> tuple[int, ...]:
        return self.grid.time_shape


def data_edges(partition: Partition) -> list[Edge]:
    """Every operator-to-operator dependency through a tensor, with its time match."""
    graph = partition.graph
    cache: dict[object, TimeMatch] = {}
    edges = []
    for op in graph.operators:
        for i, tensor in enumerate(op.inputs):
            if tensor not in graph.producer:
                continue
            source = source_layout(partition, tensor)
            assert source is not None
            reader = input_layout(partition, op.id, i)
            edges.append(
                Edge(graph.producer[tensor][0], op.id, i, _cached_match(cache, source, reader))
            )
    return edges


def update_edges(partition: Partition) -> list[Edge]:
    """A parameter is updated in place, so its update comes after everything that reads it, or a
    view of it."""
    graph = partition.graph
    edges = []
    for update in graph.updates:
        rest = source_layout(partition, update.param)
        assert rest is not None
        for reader, i in graph.consumers[update.param]:
            if reader != update.operator:
                match = _overwriting_match(rest, input_layout(partition, reader, i))
                edges.append(Edge(reader, update.operator, OVERWRITTEN, match))
        for reader in _readers_of_views(partition, update.param):
            count = len(partition.placed[reader].grid.time_dims)
            match = TimeMatch((ALL,) * count)
            edges.append(Edge(reader, update.operator, OVERWRITTEN, match))
    return edges


def _readers_of_views(partition: Partition, tensor: int) -> list[int]:
    """The operators that read views of a tensor, or views of those."""
    graph, found = partition.graph, []
    stack = [tensor]
    while stack:
        for reader, _ in graph.consumers.get(stack.pop(), ()):
            if partition.axes_of(reader).rule.is_view:
                made = [t for t in graph.operators[reader].outputs if t in graph.consumers]
                stack += made
                found += [r for t in made for r, _ in graph.consumers[t]]
    return sorted(set(found))


def _overwriting_match(rest: Layout, reader: Layout) -> TimeMatch:
    """Which parts of a reader an update's part in time waits for: the one that reads its part, or
    all."""
    count = len(reader.grid.time_dims)
    match = match_time(rest, reader)
    if match.is_aligned and rest.grid.time_shape == reader.grid.time_shape:
        return match
    return TimeMatch((ALL,) * count)


def _cached_match(cache: dict[object, TimeMatch], source: Layout, reader: Layout) -> TimeMatch:
    key = (id(source.grid), source.roles, id(reader.grid), reader.roles, len(source.sizes))
    if key not in cache:
        cache[key] = match_time(source, reader)
    return cache[key]


def build_segments(partition: Partition, edges: list[Edge], order: list[int]) -> list[Segment]:
    """Cut the operators, taken in topological `order`, into segments."""
    barriers, feeds_time = barrier_levels(partition, edges, order)
    keys = [
        (p.grid.key, p.label, barriers[i], feeds_time[i]) for i, p in enumerate(partition.placed)
    ]
    levels = _levels(partition, edges, order, keys)
    groups: dict[tuple[object, int], list[int]] = {}
    for op in order:
        groups.setdefault((keys[op], levels[op]), []).append(op)
    rank = {op: i for i, op in enumerate(order)}
    parts = [
        sorted(ops, key=rank.__getitem__) for ops in _merge(list(groups.values()), keys, edges)
    ]
    return [_segment(partition, i, ops, barriers[ops[0]]) for i, ops in enumerate(parts)]


def single_segments(partition: Partition, edges: list[Edge], order: list[int]) -> list[Segment]:
    """A segment for each operator: where orders leave no room for larger ones."""
    barriers, _ = barrier_levels(partition, edges, order)
    names = [operator.name for operator in partition.graph.operators]
    alone = [_segment(partition, i, [op], barriers[op]) for i, op in enumerate(order)]
    return [replace(s, name=names[s.operators[0]], contents="") for s in alone]


def _segment(partition: Partition, i: int, ops: list[int], barrier: int) -> Segment:
    """What a barrier waits for is no part of its stage's macro tasks: it has its own label."""
    placed = partition.placed[ops[0]]
    label = placed.label or partition.graph.operators[ops[0]].phase.value
    label = label if barrier == NO_BARRIER else f"before_barrier_{label}"
    names = [partition.graph.operators[op].name for op in (ops[0], ops[-1])]
    contents = " to ".join(dict.fromkeys(names))
    return Segment(i, f"{label}/{i}", label, placed.grid, tuple(ops), contents)


def barrier_levels(
    partition: Partition, edges: list[Edge], order: list[int]
) -> tuple[list[int], list[bool]]:
    """Per operator: the first barrier that waits for it (NO_BARRIER: none), and whether it is split
    in microbatches, or work split in microbatches depends on it.

    A barrier is an operator that needs several microbatches of what it reads, and on which work
    split in microbatches depends (batch statistics, a count of valid tokens). What it waits for
    must run for all microbatches first, so it must not share a task with what need not.
    """
    count = len(partition.graph.operators)
    outgoing: list[list[Edge]] = [[] for _ in range(count)]
    incoming: list[list[Edge]] = [[] for _ in range(count)]
    for edge in edges:
        outgoing[edge.producer].append(edge)
        incoming[edge.reader].append(edge)
    grids = [p.grid for p in partition.placed]
    feeds_time = [_microbatch(grid) is not None for grid in grids]
    mixing = {id(e) for e in edges if _mixes_microbatches(e, grids[e.producer])}
    for op in reversed(order):
        feeds_time[op] |= any(feeds_time[e.reader] for e in outgoing[op])
    height = [0] * count
    for op in order:
        height[op] = max((height[e.producer] + (id(e) in mixing) for e in incoming[op]), default=0)
    level = [NO_BARRIER] * count
    for op in reversed(order):
        for e in outgoing[op]:
            level[op] = min(level[op], level[e.reader])
            if id(e) in mixing and feeds_time[e.reader]:
                level[op] = min(level[op], height[e.reader])
    return level, feeds_time


def _microbatch(grid: Grid) -> int | None:
    """The position of the microbatches among the grid's time dims."""
    named = [k for k, d in enumerate(grid.time_dims) if grid.names[d] == MICROBATCH]
    return named[0] if named else None


def _mixes_microbatches(edge: Edge, producer: Grid) -> bool:
    position = _microbatch(producer)
    return position is not None and edge.match.sources[position] == ALL


def _levels(
    partition: Partition, edges: list[Edge], order: list[int], keys: Sequence[tuple[object, ...]]
) -> list[int]:
    """How many segment boundaries lie above each operator; lowered to its readers' if possible,
    unless it would keep alive more than it makes."""
    incoming: list[list[Edge]] = [[] for _ in keys]
    outgoing: list[list[Edge]] = [[] for _ in keys]
    for edge in edges:
        incoming[edge.reader].append(edge)
        outgoing[edge.producer].append(edge)
    levels = [0] * len(keys)

    def step(edge: Edge) -> int:
        same = keys[edge.producer] == keys[edge.reader] and edge.match.is_aligned
        return 0 if same else 1

    for op in order:
        levels[op] = max((levels[e.producer] + step(e) for e in incoming[op]), default=0)
    may_wait = _may_wait(partition, order)
    for op in reversed(order):
        if outgoing[op] and may_wait[op]:
            levels[op] = max(levels[op], min(levels[e.reader] - step(e) for e in outgoing[op]))
    return levels


def _may_wait(partition: Partition, order: list[int]) -> list[bool]:
    """Per operator: whether it writes at least as many bytes as it reads of what others made; what
    is made of nothing but what rests on the devices can wait with its reader, and so can what runs
    again, which is made of what is kept anyway."""
    graph = partition.graph
    at_rest: set[int] = set()
    found = [False] * len(graph.operators)
    for op in order:
        operator = graph.operators[op]
        inputs = [t for t in operator.inputs if t in graph.producer and t not in at_rest]
        if not inputs and not any(t in graph.batch for t in operator.inputs):
            at_rest.update(operator.outputs)
        if operator.runs_again:
            inputs = []
        read = sum(graph.tensors[t].num_bytes for t in inputs)
        made = sum(graph.tensors[t].num_bytes for t in operator.outputs if t >= 0)
        found[op] = made >= read
    return found


def _merge(
    groups: list[list[int]], keys: Sequence[tuple[object, ...]], edges: list[Edge]
) -> list[list[int]]:
    """Join groups of one key as long as no path leads out of the joined group and back."""
    home = {op: g for g, ops in enumerate(groups) for op in ops}
    after: list[set[int]] = [set() for _ in groups]
    before: list[set[int]] = [set() for _ in groups]
    mixing: set[tuple[int, int]] = set()
    for e in edges:
        a, b = home[e.producer], home[e.reader]
        if a != b:
            after[a].add(b)
            before[b].add(a)
            if not e.match.is_aligned:
                mixing.add((a, b))
    alive: dict[object, list[int]] = {}
    merged = [list(ops) for ops in groups]
    for g, ops in enumerate(groups):
        peers = alive.setdefault(keys[ops[0]], [])
        for p in peers[::-1]:
            blocked = (p, g) in mixing or (g, p) in mixing
            if not blocked and not _detour(after, p, g) and not _detour(after, g, p):
                _contract(after, before, mixing, p, g)
                merged[p] += merged[g]
                merged[g] = []
                break
        else:
            peers.append(g)
    return [ops for ops in merged if ops]


def _detour(after: list[set[int]], start: int, goal: int) -> bool:
    """Whether a path of two or more steps leads from group `start` to `goal`."""
    stack = [n for n in after[start] if n != goal]
    seen = set(stack)
    while stack:
        node = stack.pop()
        for n in after[node]:
            if n == goal:
                return True
            if n not in seen:
                seen.add(n)
                stack.append(n)
    return False


def _contract(
    after: list[set[int]],
    before: list[set[int]],
    mixing: set[tuple[int, int]],
    keep: int,
    gone: int,
) -> None:
    """Group `gone` becomes part of group `keep`."""
    for n in after[gone]:
        before[n].discard(gone)
        if n != keep:
            after[keep].add(n)
            before[n].add(keep)
    for n in before[gone]:
        after[n].discard(gone)
        if n != keep:
            after[n].add(keep)
            before[keep].add(n)
    after[keep].discard(gone)
    before[keep].discard(gone)
    for a, b in [m for m in mixing if gone in m]:
        mixing.discard((a, b))
        mixing.add((keep if a == gone else a, keep if b == gone else b))
    after[gone], before[gone] = set(), set()

"""Dependencies: for every operator input, the value it reads and the conversion that makes it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from superscaler.cluster.cluster import Cluster
from superscaler.graph.tensor import TensorKind
from superscaler.materialize.conversion import Route, plan_route
from superscaler.materialize.early import reduced_early
from superscaler.materialize.program import (
    BOUNDARY,
    Conversion,
    Own,
    Program,
    Read,
    Result,
    ValueRef,
)
from superscaler.materialize.rvd import PathCache
from superscaler.schedule.linear import Timed
from superscaler.schedule.tasks import TaskGraph
from superscaler.transform.layout import (
    Layout,
    input_layout,
    output_layout,
    resting_layout,
    source_layout,
)
from superscaler.transform.match import ALL, FIRST, match_time
from superscaler.transform.partition import REPLICATE, Grid, Partition


def materialize(partition: Partition, tasks: TaskGraph, timed: Timed, cluster: Cluster) -> Program:
    """Derive every communication that the partition's data dependencies need."""
    work = _Work(partition, tasks, cluster)
    for op in partition.graph.operators:
        for i in range(len(op.inputs)):
            work.reads[op.id, i] = _read(work, op.id, i)
    results = _results(work)
    buffers = _new_buffers(work)
    return Program(
        partition,
        tasks,
        timed,
        work.reads,
        tuple(work.conversions),
        tuple(work.owned.values()),
        {
            t: tuple((name, *how) for name, how in sorted(names.items()))
            for t, names in work.accumulated.items()
        },
        tuple(results),
        tuple(buffers),
        tuple(_notes(work)),
    )


@dataclass
class _Work:
    """What `materialize` has found so far."""

    partition: Partition
    tasks: TaskGraph
    cluster: Cluster
    reads: dict[tuple[int, int], Read] = field(default_factory=dict)
    conversions: list[Conversion] = field(default_factory=list)
    by_key: dict[object, int] = field(default_factory=dict)
    routes: dict[object, Route] = field(default_factory=dict)
    paths: PathCache = field(default_factory=dict)
    owned: dict[object, Own] = field(default_factory=dict)
    accumulated: dict[int, dict[str, tuple[tuple[int, ...], str]]] = field(default_factory=dict)
    sources: dict[int, Layout | None] = field(default_factory=dict)
    late: list[int] = field(default_factory=list)  # gradients reduced once a step, against the plan

    def source(self, tensor: int) -> Layout | None:
        if tensor not in self.sources:
            self.sources[tensor] = source_layout(self.partition, tensor)
        return self.sources[tensor]

    def route(self, source: Layout, target: Layout, item_bytes: int) -> Route:
        key = (source.key, target.key, item_bytes)
        if key not in self.routes:
            match = match_time(source, target)
            self.routes[key] = plan_route(
                source, target, match, item_bytes, self.cluster, self.paths
            )
        return self.routes[key]


def value_name(partition: Partition, tensor: int) -> str:
    """The name of the value that an operator writes (or of a parameter at rest)."""
    named = partition.graph.tensors[tensor]
    pieces = named.name.split(":")[0].split(".")
    words = [p for p in pieces if not p.isdigit() and p != "bwd"] or ["value"]
    count = 1 if named.kind is TensorKind.VALUE else 2
    clean = "".join(ch if ch.isalnum() else "_" for ch in "_".join(words[-count:]))
    return f"{'' if clean[0].isalpha() else 'v'}{clean}_{tensor}"


def _read(work: _Work, op: int, i: int) -> Read:
    tensor = work.partition.graph.operators[op].inputs[i]
    target = input_layout(work.partition, op, i)
    source = work.source(tensor)
    if source is None:
        return _own_read(work, tensor, target)
    return _converted_read(work, tensor, source, target, op)


def _own_read(work: _Work, tensor: int, target: Layout) -> Read:
    """Every reader has its own part of a tensor that nothing produces."""
    dims = target.grid.time_dims
    keys = tuple(
        k for k, d in enumerate(dims) if target.roles[d] >= 0 or not _same_devices(target.grid, d)
    )
    key = (tensor, target.key, keys)
    if key not in work.owned:
        variant = sum(1 for o in work.owned.values() if o.tensor == tensor)
        name = value_name(work.partition, tensor) + (f"_v{variant}" if variant else "")
        work.owned[key] = Own(name, tensor, target, keys)
    return Read(ValueRef(work.owned[key].name, keys))


def _same_devices(grid: Grid, dim: int) -> bool:
    rows = np.moveaxis(grid.devices, dim, 0)
    return bool((rows == rows[:1]).all())


def _converted_read(work: _Work, tensor: int, source: Layout, target: Layout, reader: int) -> Read:
    name = _source_name(work, tensor, source)
    item_bytes = work.partition.graph.tensors[tensor].dtype.itemsize
    route = work.route(source, target, item_bytes)
    if route.is_identity:
        return Read(_direct(name, route), -1, route.cut)
    if route.is_local_sum:
        total = _accumulate(work, tensor, route, name)
        kept = tuple((0,) if s == FIRST else s for s in route.match.sources if s != ALL)
        return Read(ValueRef(total, kept), -1, route.cut)
    early = _early_read(work, tensor, source, target, reader, route)
    if early is not None:
        return early
    conversion = _conversion(work, tensor, route, name, reader)
    return Read(ValueRef(conversion.name, route.keys), conversion.id, route.cut)


def _early_read(
    work: _Work, tensor: int, source: Layout, target: Layout, reader: int, route: Route
) -> Read | None:
    """A gradient that replicas reduce at each microbatch, where the plan asks for that; None where
    there is nothing to reduce early, or it cannot be (which the program's notes say)."""
    if reader < 0 or work.partition.placed[reader].reduce != "microbatch":
        return None
    between = reduced_early(source, target, route.match)
    if between is None:
        return None
    item_bytes = work.partition.graph.tensors[tensor].dtype.itemsize
    early, rest = work.route(source, between, item_bytes), work.route(between, target, item_bytes)
    if not _all_early(work, tensor, source, early):
        work.late.append(tensor)
        return None
    conversion = _conversion(work, tensor, early, value_name(work.partition, tensor), reader)
    total = f"{conversion.name}_sum"
    into = (total, rest.kept, rest.collapse)
    assert conversion.into in (None, into), "readers of one early reduction add it up differently"
    work.conversions[conversion.id] = replace(conversion, into=into)
    kept = tuple((0,) if s == FIRST else s for s in rest.match.sources if s != ALL)
    return Read(ValueRef(total, kept), -1, rest.cut)


def _all_early(work: _Work, tensor: int, source: Layout, early: Route) -> bool:
    """Whether all who read a gradient after all microbatches can take it from what is reduced at
    each: else it would be kept whole as well."""
    item_bytes = work.partition.graph.tensors[tensor].dtype.itemsize
    for reader, i in work.partition.graph.consumers[tensor]:
        target = input_layout(work.partition, reader, i)
        if ALL not in match_time(source, target).sources:
            continue
        is_early = _scope(work, tensor, early, reader)[1]
        if not is_early or not work.route(early.target, target, item_bytes).is_local_sum:
            return False
    return True


def _direct(name: str, route: Route) -> ValueRef:
    """The producer's own value, by the reader's time."""
    return ValueRef(name, tuple((0,) if s == FIRST else s for s in route.match.sources))


def _source_name(work: _Work, tensor: int, source: Layout) -> str:
    name = value_name(work.partition, tensor)
    if tensor not in work.partition.graph.producer:
        key = (tensor, "rest")
        if key not in work.owned:
            trained = work.partition.graph.tensors[tensor].kind is TensorKind.PARAM
            keys = tuple(range(len(source.grid.time_dims)))
            work.owned[key] = Own(name, tensor, source, keys, trained)
    return name


def _conversion(work: _Work, tensor: int, route: Route, name: str, reader: int) -> Conversion:
    scope, at_producer = _scope(work, tensor, route, reader)
    home = work.tasks.home[reader] if route.is_dealt and reader >= 0 else -1
    key = (tensor, route.source.key, _target_key(route), scope, home)
    if key not in work.by_key:
        if route.collapse not in ("", "concat"):
            name = _accumulate(work, tensor, route, name)
        found = Conversion(len(work.conversions), tensor, route, scope, at_producer, name)
        work.conversions.append(found)
        work.by_key[key] = found.id
    return work.conversions[work.by_key[key]]


def _target_key(route: Route) -> object:
    """Readers with equal target keys can share the converted value."""
    target = route.target
    roles = tuple(REPLICATE if r in route.cut else r for r in target.roles)
    return (target.grid.key, roles, route.keys)


def _accumulate(work: _Work, tensor: int, route: Route, name: str) -> str:
    """Ask for the tensor's partial values to be reduced as they come; the result's name."""
    total = f"{name}_{route.collapse}" + "".join(str(i) for i in route.kept)
    work.accumulated.setdefault(tensor, {})[total] = (route.kept, route.collapse)
    return total


def _producer_segment(work: _Work, tensor: int) -> int:
    made = work.partition.graph.producer.get(tensor)
    return BOUNDARY if made is None else work.tasks.home[made[0]]


def _scope(work: _Work, tensor: int, route: Route, reader: int) -> tuple[int, bool]:
    """In which segment's tasks a conversion runs, and whether right after its producer."""
    here = BOUNDARY if reader < 0 else work.tasks.home[reader]
    made = _producer_segment(work, tensor)
    if made == here != BOUNDARY:
        return here, False
    if route.collapse or route.match.is_mixing or not _same_ranks(route):
        return BOUNDARY, False
    if here != BOUNDARY and _gathers_at_use(work, tensor, reader):
        return here, False
    aligned = made != BOUNDARY and _is_aligned(route)
    if aligned and here != BOUNDARY and route.grows and not route.is_general:
        return here, False
    if aligned and not route.is_general:
        return made, True
    return BOUNDARY, False


def _is_aligned(route: Route) -> bool:
    """Producer and reader run on one grid shape in time, part by part."""
    source, target = route.source.grid, route.target.grid
    positions = route.match.sources
    return (
        positions == tuple(range(len(target.time_dims))) and source.time_shape == target.time_shape
    )


def _same_ranks(route: Route) -> bool:
    """Whether, at every time, the value moves only among the ranks that read it."""
    if route.paths is None:
        return False
    return all(
        set(p.source.ravel().tolist()) == set(p.target.ravel().tolist())
        for p in route.paths.values()
    )


def _gathers_at_use(work: _Work, tensor: int, reader: int) -> bool:
    """Whether the plan wants this tensor gathered at each use (ZeRO stage 3)."""
    graph, placed = work.partition.graph, work.partition.placed
    maker = (
        graph.producer[tensor][0] if tensor in graph.producer else graph.update_of.get(tensor, -1)
    )
    is_rest = tensor not in graph.producer or not placed[maker].grid.time_dims
    return maker >= 0 and maker != reader and is_rest and placed[maker].gather == "use"


def _results(work: _Work) -> list[Result]:
    graph = work.partition.graph
    wanted = [("loss", graph.loss), *((f"metrics.{n}", t) for n, t in graph.metrics)]
    if graph.grad_norm >= 0:
        wanted.append(("grad_norm", graph.grad_norm))
    found = []
    for name, tensor in wanted:
        source = work.source(tensor)
        if source is None:
            target = _everywhere(work.partition, tensor)
            read = _own_read(work, tensor, target)
        else:
            target = _whole(work, tensor, source)
            read = _converted_read(work, tensor, source, target, -1)
        found.append(Result(name, tensor, read.value, int(target.grid.devices.flat[0])))
    return found


def _whole(work: _Work, tensor: int, source: Layout) -> Layout:
    """The whole result on the ranks that have parts of it; on one of them where that is no
    collective."""
    settled = resting_layout(source)
    target = Layout(settled.grid, (REPLICATE,) * len(settled.roles), settled.sizes)
    item_bytes = work.partition.graph.tensors[tensor].dtype.itemsize
    if not work.route(source, target, item_bytes).is_general:
        return target
    grid = Grid(settled.grid.devices.reshape(-1)[:1], ("all",))
    return Layout(grid, (REPLICATE,), settled.sizes)


def _everywhere(partition: Partition, tensor: int) -> Layout:
    grid = Grid(np.zeros((1,), dtype=np.int64), ("all",))
    return Layout(grid, (REPLICATE,), partition.axes.sizes(tensor))


def _new_buffers(work: _Work) -> list[tuple[int, ValueRef, str]]:
    graph = work.partition.graph
    found = []
    for buffer, new in graph.buffers.items():
        if new not in graph.producer:
            continue
        source = output_layout(work.partition, *graph.producer[new])
        rest = resting_layout(source)
        name = _source_name(work, buffer, rest)
        read = _converted_read(work, new, source, rest, -1)
        found.append((buffer, read.value, name))
    return found


def _notes(work: _Work) -> list[str]:
    general = [c.tensor for c in work.conversions if c.route.is_general]
    found = list(work.partition.notes)
    if general:
        names = _listed(work, general)
        found.append(f"general path (point to point) for {len(general)} conversions: {names}")
    if work.late:
        late = list(dict.fromkeys(work.late))
        found.append(
            f"reduced once a step, not at each microbatch: {len(late)} gradients, which other "
            f"stages or parts in time read too: {_listed(work, late)}"
        )
    return found


def _listed(work: _Work, tensors: list[int]) -> str:
    names = [work.partition.graph.tensors[t].name for t in tensors[:5]]
    more = f" and {len(tensors) - 5} more" if len(tensors) > 5 else ""
    return f"{', '.join(names)}{more}"

"""Step costs: durations, transfers and held bytes of a program's tasks, for the scheduler."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from math import prod

from superscaler.cluster.cluster import Cluster
from superscaler.cluster.profile import Profile
from superscaler.emit.copies import last_out
from superscaler.graph.tensor import HOST
from superscaler.materialize.program import BOUNDARY, Own, Program, Read
from superscaler.schedule.costs import Held, Reader, StepCosts
from superscaler.search.costs import segment_costs
from superscaler.search.transfers import left_under_way, transfers_of
from superscaler.transform.layout import Layout, input_layout, output_layout


def step_costs(program: Program, cluster: Cluster, profile: Profile | None = None) -> StepCosts:
    """What the program's segments take and hold on `cluster`, whatever the order of tasks."""
    segments = segment_costs(program, cluster, profile)
    resident, copied = _resident_bytes(program), _copied_bytes(program)
    transfers = transfers_of(program, cluster, profile) + left_under_way(program, segments)
    return StepCosts(
        tuple(cost.duration_us for cost in segments),
        tuple(cost.temporary_bytes for cost in segments),
        tuple(transfers),
        tuple(_held(program)),
        {d: n + copied.get(d, 0) for d, n in resident.items()},
        {d: cluster.device(d).memory_bytes for d in range(program.partition.num_devices)},
    )


def local_elements(layout: Layout) -> int:
    """Elements of the largest part."""
    return prod(layout.local_sizes((0,) * len(layout.grid.shape)))


# memory


def _output_bytes(program: Program, op: int, k: int) -> int:
    tensor = program.partition.graph.tensors[program.partition.graph.operators[op].outputs[k]]
    return local_elements(output_layout(program.partition, op, k)) * tensor.dtype.itemsize


def _held(program: Program) -> list[Held]:
    """Values that outlive the task that makes them, alike ones together."""
    total: dict[tuple[int, int, tuple[Reader, ...], bool], int] = defaultdict(int)
    for (source, home, is_sum), readers, size in _values(program):
        listed = tuple(sorted(readers, key=lambda r: (r.segment, r.sources)))
        total[source, home, listed, is_sum] += size
    return [
        Held(source, home, readers, size, is_sum)
        for (source, home, readers, is_sum), size in sorted(total.items(), key=str)
        if size
    ]


def _values(program: Program) -> list[tuple[tuple[int, int, bool], set[Reader], int]]:
    """Every value's maker and place, who reads it elsewhere, and its bytes there."""
    graph, home, partition = program.partition.graph, program.tasks.home, program.partition
    found: dict[tuple[object, ...], tuple[tuple[int, int, bool], set[Reader], int]] = {}
    reduced = {c.into[0]: c for c in program.conversions if c.into is not None}
    gathered: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for (op, i), read in program.reads.items():
        tensor = graph.operators[op].inputs[i]
        if graph.tensors[tensor].memory == HOST:
            continue
        if tensor not in graph.producer:
            if read.conversion >= 0 and program.conversions[read.conversion].scope == BOUNDARY:
                gathered[read.conversion].append((op, i))
            continue
        maker, k = graph.producer[tensor]
        if home[maker] == home[op]:
            continue
        root, slot = _storage(program, maker, k)
        is_sum = tensor in program.accumulated
        item = graph.tensors[tensor].dtype.itemsize
        if read.value.name in reduced:  # at each microbatch, and added up
            route = reduced[read.value.name].route
            sources = (-2,) * len(partition.placed[maker].grid.time_dims)
            key: tuple[object, ...] = ("sum", read.value.name)
            size = local_elements(route.target) * item
            place = (home[maker], home[maker], True)
        elif _is_of_sum_here(program, read, home[maker], home[op]):  # whole until it is converted
            sources = program.conversions[read.conversion].route.match.sources
            key = ("own", root, slot)
            size = _output_bytes(program, root, slot)
            place = (home[maker], home[maker], True)
        elif read.conversion >= 0:
            route = program.conversions[read.conversion].route
            sources = route.match.sources
            key = ("converted", read.conversion, home[op])
            size = local_elements(input_layout(partition, op, i)) * item
            place = (home[maker], home[op], is_sum)
        else:
            time = tuple(t if isinstance(t, int) else -1 for t in read.value.time)
            sources = time if not is_sum else (-2,) * len(partition.placed[maker].grid.time_dims)
            key = ("own", root, slot)
            size = _output_bytes(program, root, slot)
            place = (home[maker], home[maker], is_sum)
        entry = found.setdefault(key, (place, set(), size))
        entry[1].add(Reader(home[op], sources))
    return [*found.values(), *(_gathered(program, reads) for reads in gathered.values())]


def _is_of_sum_here(program: Program, read: Read, maker: int, reader: int) -> bool:
    """Whether what is read is made of parts in time that are added up on the same devices."""
    if read.conversion < 0:
        return False
    segments = program.tasks.segments
    here, there = (set(segments[n].grid.devices.ravel().tolist()) for n in (maker, reader))
    route = program.conversions[read.conversion].route
    return route.collapse not in ("", "concat") and here == there


def _gathered(
    program: Program, reads: Sequence[tuple[int, int]]
) -> tuple[tuple[int, int, bool], set[Reader], int]:
    """Parameters that are brought to where they are read: from the first task that reads them, of
    the first segment that does in the order so far, to the last."""
    home, (op, i) = program.tasks.home, reads[0]
    tensor = program.partition.graph.operators[op].inputs[i]
    item = program.partition.graph.tensors[tensor].dtype.itemsize
    segments = {home[op] for op, _ in reads}
    parts = (program.tasks.tasks[t].segment for t in program.timed.order)
    first = next(segment for segment in parts if segment in segments)
    everywhen = (-2,) * len(program.tasks.segments[first].time_shape)
    readers = {Reader(home[op], everywhen) for op, _ in reads}
    return (
        (first, first, True),
        readers,
        local_elements(input_layout(program.partition, op, i)) * item,
    )


def _storage(program: Program, op: int, k: int) -> tuple[int, int]:
    """The operator and output whose memory a view in the same task shows."""
    graph, home = program.partition.graph, program.tasks.home
    while program.partition.axes_of(op).rule.is_view and graph.operators[op].inputs:
        maker = graph.producer.get(graph.operators[op].inputs[0])
        if maker is None or home[maker[0]] != home[op]:
            break
        op, k = maker
    return op, k


def owned_bytes(program: Program, own: Own) -> int:
    """Bytes of a parameter, buffer, state or batch leaf on each device that has a part of it."""
    tensor, grid = program.partition.graph.tensors[own.tensor], own.layout.grid
    if tensor.memory == HOST:
        return 0
    times = prod(grid.time_shape[k] for k in own.keys)
    return local_elements(own.layout) * tensor.dtype.itemsize * times


def _resident_bytes(program: Program) -> dict[int, int]:
    """Per device: parameters, buffers, optimizer states and its part of the batch."""
    total: dict[int, int] = defaultdict(int)
    for own in program.owned:
        size = owned_bytes(program, own)
        for d in sorted(set(own.layout.grid.devices.ravel().tolist())):
            total[d] += size
    return dict(total)


def _copied_bytes(program: Program) -> dict[int, int]:
    """Per device, whichever task runs: the most that the last copies out of the task before, which
    may be under way still, are made from."""
    found: dict[int, int] = defaultdict(int)
    producer = program.partition.graph.producer
    for segment in program.tasks.segments:
        size = sum(_output_bytes(program, *producer[t]) for t in last_out(program, segment))
        for d in set(segment.grid.devices.ravel().tolist()) if size else ():
            found[d] = max(found[d], size)
    return dict(found)

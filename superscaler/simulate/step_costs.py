"""Step costs: durations, transfers and held bytes of a program's tasks, for the scheduler."""

from __future__ import annotations

from collections import defaultdict
from math import prod

from superscaler.cluster.cluster import Cluster
from superscaler.materialize.program import Conversion, Program
from superscaler.schedule.costs import Held, Reader, StepCosts, Transfer
from superscaler.transform.cost import cost
from superscaler.transform.layout import Layout, input_layout, output_layout


def step_costs(program: Program, cluster: Cluster) -> StepCosts:
    """What the program's segments take and hold on `cluster`, whatever the order of tasks."""
    return StepCosts(
        tuple(_duration_us(program, s, cluster) for s in range(len(program.tasks.segments))),
        tuple(_temporary_bytes(program, s) for s in range(len(program.tasks.segments))),
        tuple(_transfers(program, cluster)),
        tuple(_held(program)),
        _resident_bytes(program),
        {d: cluster.device(d).memory_bytes for d in range(program.partition.num_devices)},
    )


def _duration_us(program: Program, segment: int, cluster: Cluster) -> float:
    """Arithmetic and memory traffic of one part, kernel launches, and conversions inside."""
    partition, found = program.partition, program.tasks.segments[segment]
    flops = kernels = 0.0
    for op in found.operators:
        own = partition.axes_of(op)
        parts = prod(n for r, n in zip(partition.placed[op].roles, found.grid.shape) if r >= 0)
        flops += cost(partition.graph, partition.axes, op) / parts
        kernels += not own.rule.is_view
    inside = sum(conversion_us(program, c, cluster) for c in program.inline_of(segment))
    device = cluster.device(int(found.grid.devices.flat[0]))
    dtype = str(partition.graph.tensors[partition.graph.loss].dtype).removeprefix("torch.")
    return flops / (device.peak_tflops(dtype) * 1e6) + kernels * device.launch_us + inside


def conversion_us(program: Program, conversion: Conversion, cluster: Cluster) -> float:
    """How long a conversion takes once it has begun: its steps one after the other."""
    route = conversion.route
    item = program.partition.graph.tensors[conversion.tensor].dtype.itemsize
    devices = [route.source.grid.devices, route.target.grid.devices]
    ranks = sorted({int(d) for grid in devices for d in grid.ravel()})
    link = cluster.link(ranks)
    if route.paths is None:
        return link.transfer_us(local_elements(route.target) * item)
    steps = next(iter(route.paths.values())).steps
    return sum(
        link.transfer_us(max(prod(step.before), prod(step.after)) * item)
        for step in steps
        if step.kind != "chunk"
    )


def local_elements(layout: Layout) -> int:
    """Elements of the largest part."""
    return prod(layout.local_sizes((0,) * len(layout.grid.shape)))


def _transfers(program: Program, cluster: Cluster) -> list[Transfer]:
    graph, home = program.partition.graph, program.tasks.home
    slowest: dict[tuple[int, int], float] = {}
    for (op, _), read in program.reads.items():
        if read.conversion < 0:
            continue
        conversion = program.conversions[read.conversion]
        maker = graph.producer.get(conversion.tensor)
        if maker is None or home[maker[0]] == home[op] or conversion.scope in (home[op],):
            continue
        key = (home[maker[0]], home[op])
        slowest[key] = max(slowest.get(key, 0.0), conversion_us(program, conversion, cluster))
    return [Transfer(a, b, us) for (a, b), us in sorted(slowest.items())]


# memory


def _temporary_bytes(program: Program, segment: int) -> int:
    """The most that values made and last read inside a task take at one time."""
    graph = program.partition.graph
    members = program.tasks.segments[segment].operators
    position = {op: i for i, op in enumerate(members)}
    change = [0] * (len(members) + 2)
    for op in members:
        if program.partition.axes_of(op).rule.is_view:
            continue
        for k, tensor in enumerate(graph.operators[op].outputs):
            if tensor < 0:
                continue
            readers = _readers(program, tensor)
            if any(r not in position for r in readers) or tensor in program.accumulated:
                continue
            size = _output_bytes(program, op, k)
            change[position[op]] += size
            change[max((position[r] for r in readers), default=position[op]) + 1] -= size
    now = most = 0
    for amount in change:
        now += amount
        most = max(most, now)
    return most


def _readers(program: Program, tensor: int) -> list[int]:
    """The operators that read a tensor's memory, through views too."""
    graph = program.partition.graph
    found: list[int] = []
    for op, _ in graph.consumers.get(tensor, ()):
        found.append(op)
        if program.partition.axes_of(op).rule.is_view:
            found += _readers(program, graph.operators[op].outputs[0])
    return found


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
    for (op, i), read in program.reads.items():
        tensor = graph.operators[op].inputs[i]
        if tensor not in graph.producer:
            continue
        maker, k = graph.producer[tensor]
        if home[maker] == home[op]:
            continue
        root, slot = _storage(program, maker, k)
        is_sum = tensor in program.accumulated
        if read.conversion >= 0:
            route = program.conversions[read.conversion].route
            sources = route.match.sources
            key: tuple[object, ...] = ("converted", read.conversion, home[op])
            item = graph.tensors[tensor].dtype.itemsize
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
    return list(found.values())


def _storage(program: Program, op: int, k: int) -> tuple[int, int]:
    """The operator and output whose memory a view in the same task shows."""
    graph, home = program.partition.graph, program.tasks.home
    while program.partition.axes_of(op).rule.is_view and graph.operators[op].inputs:
        maker = graph.producer.get(graph.operators[op].inputs[0])
        if maker is None or home[maker[0]] != home[op]:
            break
        op, k = maker
    return op, k


def _resident_bytes(program: Program) -> dict[int, int]:
    """Per device: parameters, buffers, optimizer states and its part of the batch."""
    total: dict[int, int] = defaultdict(int)
    tensors = program.partition.graph.tensors
    for own in program.owned:
        grid = own.layout.grid
        size = local_elements(own.layout) * tensors[own.tensor].dtype.itemsize
        times = prod(grid.time_shape[k] for k in own.keys)
        for d in sorted(set(grid.devices.ravel().tolist())):
            total[d] += size * times
    return dict(total)

"""Costs: what a program's segments and conversions take, before the order of tasks is decided.

A segment's function does not depend on the order, so it is recorded here as it will run.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from superscaler.cluster.cluster import Cluster
from superscaler.emit.assemble import find_outside_reads
from superscaler.emit.buckets import single_step
from superscaler.emit.constants import Time
from superscaler.emit.emission import Emission
from superscaler.emit.local import PartIndex, local_shape
from superscaler.emit.segment import segment_function
from superscaler.emit.steps import group_of, grouped
from superscaler.materialize.conversion import Route
from superscaler.materialize.dependencies import value_name
from superscaler.materialize.general import exchanges
from superscaler.materialize.program import BOUNDARY, Conversion, Program
from superscaler.runtime.program import MARKS
from superscaler.schedule.segments import Segment
from superscaler.simulate.constants import marked
from superscaler.simulate.machine import COPY_LANES, Machine
from superscaler.simulate.optimizer import homes_of, optimizer_step
from superscaler.simulate.record import Form, Free, Post, Record, Run, Take, Wait, contiguous
from superscaler.simulate.recorder import Recorder, compiled
from superscaler.transform.layout import Layout, output_layout
from superscaler.transform.partition import REPLICATE


@dataclass(frozen=True, slots=True)
class Written:
    """A value that a segment's function returns: values with one `storage` share memory.

    `read` is the name of the value that is read and whose memory it is, "" for new memory.
    """

    name: str
    storage: int
    num_bytes: int
    read: str = ""


@dataclass(frozen=True, slots=True)
class SegmentCost:
    """One run of a segment on one device: how long, with what it waits for inside, and the bytes it
    needs at most beyond what it reads and writes."""

    duration_us: float
    temporary_bytes: int
    written: tuple[Written, ...]


@dataclass(frozen=True, slots=True)
class ConversionCost:
    """A conversion between tasks at one time key: from start to end, and where. `latency_us` of
    it is once for all that share a message."""

    duration_us: float
    link: str
    ranks: tuple[int, ...]
    latency_us: float = 0.0


def segment_costs(
    program: Program, cluster: Cluster, profile: Any = None
) -> tuple[SegmentCost, ...]:
    """Of every segment, by number."""
    emission = Emission(program)
    find_outside_reads(emission)
    work = _Work(program, emission, Machine(cluster, profile), _layouts(program))
    return tuple(work.cost(segment) for segment in program.tasks.segments)


def conversion_costs(
    program: Program, cluster: Cluster, profile: Any = None
) -> dict[tuple[int, Time], ConversionCost]:
    """Of every conversion between tasks, by its number and time key."""
    machine = Machine(cluster, profile)
    return {
        (c.id, key): _conversion_cost(program, machine, c, key)
        for c in program.conversions
        if c.scope == BOUNDARY
        for key in c.route.all_keys()
    }


def _conversion_cost(
    program: Program, machine: Machine, conversion: Conversion, key: Time
) -> ConversionCost:
    item = program.partition.graph.tensors[conversion.tensor].dtype.itemsize
    route = conversion.route
    if route.paths is None:
        return _exchange_cost(machine, route, key, item)
    path = route.paths[key]
    ranks = tuple(sorted({*path.source.ravel().tolist(), *path.target.ravel().tolist()}))
    total, latencies = 0.0, []
    for step in path.steps:
        if step.kind == "chunk":
            continue
        array = path.target if step.moved else path.source
        first = int(array.flat[0])
        sizes = [_elements(step.before), _elements(step.after)]
        size = (sizes[0] if step.kind == "all_to_all" else max(sizes)) * item
        group: tuple[int, ...]
        if step.kind == "move":
            group = (int(path.source.flat[0]), int(path.target.flat[0]))
        else:
            group = group_of(array, first, step.dims)
        total += machine.collective_us(step.kind, size, group)
        latencies.append(machine.collective_us(step.kind, 1, group))
    shared = min(latencies[0], total) if single_step(conversion) and latencies else 0.0
    return ConversionCost(total, machine.link(ranks), ranks, shared)


def _exchange_cost(machine: Machine, route: Route, key: Time, item: int) -> ConversionCost:
    """The rank that sends or receives longest."""
    busy: dict[int, float] = {}
    plan = exchanges(route, key)
    for rank, mine in plan.items():
        for _, box, peer in mine.send:
            size = _elements(tuple(b - a for a, b in box)) * item
            us = machine.collective_us("move", size, (rank, peer))
            for end in (rank, peer):
                busy[end] = busy.get(end, 0.0) + us
    ranks = tuple(sorted(plan))
    return ConversionCost(max(busy.values(), default=0.0), machine.link(ranks), ranks)


def _elements(sizes: tuple[int, ...]) -> int:
    return grouped(sizes, (len(sizes),))[0]


Layouts = dict[str, tuple[int, Layout]]  # value name -> tensor, layout of its parts


def _layouts(program: Program) -> Layouts:
    partition = program.partition
    found: Layouts = {}
    for tensor, (op, k) in partition.graph.producer.items():
        layout = output_layout(partition, op, k)
        found[value_name(partition, tensor)] = (tensor, layout)
        for total, _, _ in program.accumulated.get(tensor, ()):
            found[total] = (tensor, layout)
    for own in program.owned:
        found[own.name] = (own.tensor, own.layout)
    for c in program.conversions:
        target = c.route.target
        roles = tuple(REPLICATE if r in c.route.cut else r for r in target.roles)
        found[c.name] = (c.tensor, Layout(target.grid, roles, target.sizes))
        if c.into is not None:
            found[c.into[0]] = found[c.name]
    return found


@dataclass
class _Work:
    program: Program
    emission: Emission
    machine: Machine
    layouts: Layouts

    def cost(self, segment: Segment) -> SegmentCost:
        part = (0,) * len(segment.grid.shape)
        rank, time = int(segment.grid.devices[part]), (0,) * len(segment.time_shape)
        function = segment_function(self.emission, segment, part)
        forms = [self._form(spec, i, rank) for i, (_, spec) in enumerate(function.reads)]
        is_cuda = self.machine.is_cuda(rank)
        recorder = Recorder(rank, self.machine.kernels(rank))
        graph = self.program.partition.graph
        num_states = max((len(u.states) for u in graph.updates), default=0)
        homes = homes_of(self.program)
        step = optimizer_step(
            graph.optimizer, num_states, is_cuda, recorder.apart, recorder.copies(), homes
        )
        constants = marked(self.emission.constants, function.constants(), rank, time)
        record = recorder.record(compiled(function), forms, constants, step)
        names = [spec.partition("@")[0] for _, spec in function.reads]
        written = tuple(
            Written(
                spec.partition("@")[0].rstrip(MARKS),
                output.form.storage,
                output.form.storage_bytes,
                names[output.form.storage] if output.form.storage < len(names) else "",
            )
            for (_, spec), output in zip(function.writes, record.outputs)
        )
        stored = [not spec.endswith(tuple(MARKS)) for _, spec in function.writes]
        temporary = _temporary(record, stored)
        return SegmentCost(self._duration_us(record, rank, time), temporary, written)

    def _form(self, spec: str, number: int, rank: int) -> Form:
        """A dense tensor in a storage of its own, of the size of the rank's part."""
        tensor, layout = self.layouts[spec.partition("@")[0]]
        index = self.emission.parts.setdefault(layout.grid.key, PartIndex(layout.grid, {}))
        part = index.find(rank, (0,) * len(layout.grid.time_dims))
        part = part if part is not None else (0,) * len(layout.grid.shape)
        shape = local_shape(layout, part, self.emission.factors(tensor))
        dtype = self.program.partition.graph.tensors[tensor].dtype
        return contiguous(shape, dtype, number)

    def _duration_us(self, record: Record, rank: int, time: Time) -> float:
        """Kernels one after the other; communication beside them until it is waited for."""
        now, over = 0.0, dict[int, float]()
        free: defaultdict[str, float] = defaultdict(float)
        for step in record.steps:
            if isinstance(step, Run):
                now += step.us
            elif isinstance(step, Post):
                what, lane = record.communications[step.number], "links"
                us = 0.0
                if what.kind in COPY_LANES:
                    lane = what.kind
                    us = self.machine.collective_us(what.kind, what.num_bytes, (rank,))
                elif what.kind != "move":
                    ranks = self.emission.constants.at(what.constant, rank, time)
                    us = self.machine.collective_us(what.kind, what.num_bytes, tuple(ranks))
                else:
                    for message in (*what.sends, *what.receives):
                        us += self._message_us(message.constant, message.num_bytes, rank, time)
                free[lane] = max(free[lane], now) + us
                over[step.number] = free[lane]
            elif isinstance(step, Wait):
                now = max(now, over[step.number])
        return now

    def _message_us(self, constant: str, num_bytes: int, rank: int, time: Time) -> float:
        """A message of an exchange inside a segment, which is among the segment's own ranks."""
        value = self.emission.constants.at(constant, rank, time)
        peers = [to for *_, to in value["send"]] + [frm for frm, *_ in value["recv"]]
        return self.machine.collective_us("move", num_bytes, (rank, int(peers[0])))


def _temporary(record: Record, stored: Sequence[bool]) -> int:
    """The most bytes of new memory at one time, less those of what the call returns and is
    `stored`: what is added to a sum is there beside it."""
    now = most = 0
    sizes: dict[int, int] = {}
    for step in record.steps:
        if isinstance(step, Take) and not step.in_host:
            sizes[step.storage] = step.num_bytes
            now += step.num_bytes
            most = max(most, now)
        elif isinstance(step, Free) and step.storage >= record.num_given:
            now -= sizes.get(step.storage, 0)
    outputs = (o.form for o, kept in zip(record.outputs, stored, strict=True) if kept)
    kept = {form.storage: form.storage_bytes for form in outputs}
    new = sum(size for storage, size in kept.items() if storage in sizes)
    return max(0, most - new)

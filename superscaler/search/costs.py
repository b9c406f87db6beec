"""Costs: what a program's segments and conversions take, before the order of tasks is decided.

A segment's function does not depend on the order, so it is recorded here as it will run.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Set
from dataclasses import dataclass, field
from math import prod
from typing import Any

from superscaler.cluster.cluster import Cluster
from superscaler.emit.assemble import find_outside_reads
from superscaler.emit.buckets import single_step
from superscaler.emit.emission import Emission
from superscaler.emit.local import PartIndex, local_shape
from superscaler.emit.segment import segment_function
from superscaler.emit.steps import group_of, grouped
from superscaler.materialize.conversion import Route
from superscaler.materialize.dependencies import value_name
from superscaler.materialize.general import exchanges
from superscaler.materialize.program import BOUNDARY, Conversion, Program
from superscaler.runtime.by_time import Time
from superscaler.runtime.program import MARKS
from superscaler.schedule.segments import Segment
from superscaler.simulate.machine import COPY_LANES, Machine
from superscaler.simulate.recording.constants import marked
from superscaler.simulate.recording.optimizer import homes_of, optimizer_step
from superscaler.simulate.recording.record import (
    Communication,
    Form,
    Free,
    Post,
    Record,
    Run,
    Take,
    Wait,
    contiguous,
)
from superscaler.simulate.recording.recorder import Recorder, compiled
from superscaler.simulate.recording.work import addition_work
from superscaler.transform.layout import Layout, output_layout
from superscaler.transform.partition import REPLICATE


@dataclass(frozen=True, slots=True)
class Left:
    """Communication that a segment's function leaves under way: `duration_us` from the function's
    end, on `link`. `values` come by it: the name, and which positions in time it has."""

    values: tuple[tuple[str, tuple[int, ...]], ...]
    link: str
    duration_us: float


@dataclass(frozen=True, slots=True)
class SegmentCost:
    """One run of a segment on one device: how long, with what it waits for inside, its share of
    adding up what it writes, and what readers do when that arrives; the bytes it needs at most
    beyond what it reads and writes; what it leaves under way."""

    duration_us: float
    temporary_bytes: int
    left: tuple[Left, ...] = ()


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
        specs = [spec for _, spec in function.writes]
        run = self._run(record, rank, time)
        adding = sum(
            self._adding_us(spec, output.form, segment, rank)
            for spec, output in zip(specs, record.outputs, strict=True)
        )
        arriving = sum(s.us for a in record.arrivals for s in a.steps if isinstance(s, Run))
        left = tuple(self._left(record, run, specs))
        temporary = _temporary(record, {i for i, spec in enumerate(specs) if spec[-1] in MARKS})
        return SegmentCost(run.ends_us + adding + arriving, temporary, left)

    def _adding_us(self, spec: str, form: Form, segment: Segment, rank: int) -> float:
        """A task's share of adding up a value's parts in time: of n, n - 1 are added to others."""
        if spec[-1] not in MARKS:
            return 0.0
        kept = _written(spec)[1]
        count = prod(n for i, n in enumerate(segment.time_shape) if i not in kept)
        return self.machine.duration_us(rank)(addition_work(form)) * (count - 1) / count

    def _left(self, record: Record, run: _Ran, specs: list[str]) -> Iterator[Left]:
        """What is waited for after the function's end, and goes on after it."""
        for arrival in record.arrivals:
            values = tuple(_written(specs[i]) for i in arrival.outputs)
            late: defaultdict[str, float] = defaultdict(float)
            for number in {step.number for step in arrival.steps if isinstance(step, Wait)}:
                begin, end, link = run.communications[number]
                late[link] += max(0.0, end - max(begin, run.ends_us))
            yield from (Left(values, link, us) for link, us in sorted(late.items()) if us > 0)

    def _form(self, spec: str, number: int, rank: int) -> Form:
        """A dense tensor in a storage of its own, of the size of the rank's part."""
        tensor, layout = self.layouts[spec.partition("@")[0]]
        index = self.emission.parts.setdefault(layout.grid.key, PartIndex(layout.grid, {}))
        part = index.find(rank, (0,) * len(layout.grid.time_dims))
        part = part if part is not None else (0,) * len(layout.grid.shape)
        shape = local_shape(layout, part, self.emission.factors(tensor))
        dtype = self.program.partition.graph.tensors[tensor].dtype
        return contiguous(shape, dtype, number)

    def _run(self, record: Record, rank: int, time: Time) -> _Ran:
        """Kernels one after the other; communication beside them until it is waited for."""
        run = _Ran()
        free: defaultdict[str, float] = defaultdict(float)
        for step in record.steps:
            if isinstance(step, Run):
                run.ends_us += step.us
            elif isinstance(step, Post):
                what = record.communications[step.number]
                lane = what.kind if what.kind in COPY_LANES else "links"
                us, ranks = self._communication(what, rank, time)
                begin = max(free[lane], run.ends_us)
                free[lane] = begin + us
                link = self.machine.lane(what.kind, ranks)
                run.communications[step.number] = (begin, free[lane], link)
            elif isinstance(step, Wait):
                run.ends_us = max(run.ends_us, run.communications[step.number][1])
        return run

    def _communication(
        self, what: Communication, rank: int, time: Time
    ) -> tuple[float, tuple[int, ...]]:
        """How long it takes, and among whom."""
        if what.kind in COPY_LANES:
            return self.machine.collective_us(what.kind, what.num_bytes, (rank,)), (rank,)
        if what.kind != "move":
            ranks = tuple(self.emission.constants.at(what.constant, rank, time))
            return self.machine.collective_us(what.kind, what.num_bytes, ranks), ranks
        us, peers = 0.0, {rank}
        for message in (*what.sends, *what.receives):
            peer = self._peer(message.constant, rank, time)
            us += self.machine.collective_us("move", message.num_bytes, (rank, peer))
            peers.add(peer)
        return us, tuple(sorted(peers))

    def _peer(self, constant: str, rank: int, time: Time) -> int:
        """Of an exchange inside a segment, which is among the segment's own ranks."""
        value = self.emission.constants.at(constant, rank, time)
        return int([*(to for *_, to in value["send"]), *(frm for frm, *_ in value["recv"])][0])


@dataclass
class _Ran:
    """A function's end, and per communication: begin, end and lane."""

    ends_us: float = 0.0
    communications: dict[int, tuple[float, float, str]] = field(default_factory=dict)


def _written(spec: str) -> tuple[str, tuple[int, ...]]:
    """The name of a value that a function writes, and which positions in time it has."""
    name, _, at = spec.rstrip(MARKS).partition("@")
    return name, tuple(int(position) for position in at.split(",")) if at else ()


def _temporary(record: Record, added: Set[int]) -> int:
    """The most bytes of new memory at one time, less those of what the call returns.
    Outputs that are `added` to others are beside these until the call ends."""
    now = most = 0
    sizes: dict[int, int] = {}
    for step in record.steps:
        if isinstance(step, Take) and not step.in_host:
            sizes[step.storage] = step.num_bytes
            now += step.num_bytes
            most = max(most, now)
        elif isinstance(step, Free) and step.storage >= record.num_given:
            now -= sizes.get(step.storage, 0)
    kept = {
        o.form.storage: o.form.storage_bytes for i, o in enumerate(record.outputs) if i not in added
    }
    new = sum(size for storage, size in kept.items() if storage in sizes)
    return max(0, most - new)

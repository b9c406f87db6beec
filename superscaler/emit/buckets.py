"""Buckets: small collectives of one kind and group travel as one message."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from superscaler.emit.constants import Constants
from superscaler.emit.steps import group_constant, grouped, peer_constant
from superscaler.materialize.program import BOUNDARY, Conversion, Program
from superscaler.materialize.rvd import Step
from superscaler.schedule.segments import Segment

KINDS = ("all_reduce", "reduce_scatter", "all_gather", "move")
LARGEST_BYTES = 25 << 20  # as PyTorch's DistributedDataParallel
SMALLEST_BYTES = 1 << 18
BUCKETS_PER_TASK = 8  # so that the first are on their way while the rest is computed


@dataclass(frozen=True)
class Bucket:
    """Conversions (ids, in order) that travel together."""

    conversions: tuple[int, ...]


@dataclass(frozen=True)
class SegmentBuckets:
    """The buckets inside a segment: `produced` of what its operators make, in the order of the last
    member; `used` of what is gathered for its operators, in the order of the first use."""

    produced: tuple[Bucket, ...]
    used: tuple[Bucket, ...]


def single_step(conversion: Conversion) -> Step | None:
    """The one collective that a conversion consists of, if it does and can share a message."""
    paths = conversion.route.paths
    if paths is None or conversion.route.concat_slot >= 0:
        return None
    steps = next(iter(paths.values())).steps
    return steps[0] if len(steps) == 1 and steps[0].kind in KINDS else None


def is_move(conversion: Conversion) -> bool:
    """Whether a conversion is one message from each sender to its receiver, and no more."""
    step = single_step(conversion)
    return step is not None and step.kind == "move"


def bucket_key(program: Program, constants: Constants, conversion: Conversion) -> object | None:
    """Conversions with equal keys may share a message; None: it travels alone."""
    step = single_step(conversion)
    if step is None:
        return None
    dtype = program.partition.graph.tensors[conversion.tensor].dtype
    if step.kind == "move":
        return (step.kind, peer_constant(constants, conversion.route, "to").name, dtype)
    group = group_constant(conversion.route, step, constants)
    return (step.kind, group.name, dtype, conversion.route.source.reduce)


def num_bytes(program: Program, conversion: Conversion) -> int:
    """The bytes one rank puts into (or gets out of) the collective, whichever is more."""
    step = single_step(conversion)
    assert step is not None
    item = program.partition.graph.tensors[conversion.tensor].dtype.itemsize
    return max(prod(step.before), prod(step.after)) * item


def segment_buckets(program: Program, constants: Constants, segment: Segment) -> SegmentBuckets:
    """Group the conversions inside a segment."""
    graph = program.partition.graph
    read_here: dict[int, None] = {}
    for op in segment.operators:
        for i in range(len(graph.operators[op].inputs)):
            number = program.reads[op, i].conversion
            if number >= 0 and program.conversions[number].scope == segment.id:
                read_here[number] = None
    members = set(segment.operators)
    made = [c for c in program.inline_of(segment.id) if c.at_producer and c.id not in read_here]
    position = {op: i for i, op in enumerate(segment.operators)}
    made.sort(key=lambda c: (position[graph.producer[c.tensor][0]], c.id))
    used = [
        program.conversions[n]
        for n in read_here
        if not program.conversions[n].at_producer
        and graph.producer.get(program.conversions[n].tensor, (-1, 0))[0] not in members
        and (step := single_step(program.conversions[n])) is not None
        and step.kind == "all_gather"
    ]
    return SegmentBuckets(
        tuple(fill(program, constants, made)), tuple(fill(program, constants, used))
    )


def fill(program: Program, constants: Constants, conversions: list[Conversion]) -> list[Bucket]:
    """Cut a list of conversions, in order, into buckets of one key and of limited size."""
    sizes = {c.id: num_bytes(program, c) for c in conversions if single_step(c) is not None}
    limit = min(max(sum(sizes.values()) // BUCKETS_PER_TASK, SMALLEST_BYTES), LARGEST_BYTES)
    open_buckets: dict[object, list[int]] = {}
    filled: dict[object, int] = {}
    done: list[Bucket] = []
    for conversion in conversions:
        key = bucket_key(program, constants, conversion)
        if key is None:
            continue
        open_buckets.setdefault(key, []).append(conversion.id)
        filled[key] = filled.get(key, 0) + sizes[conversion.id]
        if filled[key] >= limit:
            done.append(Bucket(tuple(open_buckets.pop(key))))
            filled[key] = 0
    done += [Bucket(tuple(ids)) for ids in open_buckets.values()]
    return [b for b in done if len(b.conversions) > 1]


def coalesced_text(
    program: Program, constants: Constants, conversions: list[Conversion], sources: list[str]
) -> str:
    """The call that makes all of `conversions` from their sources."""
    step = single_step(conversions[0])
    assert step is not None
    group = group_constant(conversions[0].route, step, constants)
    reduce = conversions[0].route.source.reduce
    op = "" if reduce == "sum" or step.kind == "all_gather" else f', op="{reduce}"'
    if step.kind == "all_reduce":
        return f'ctx.all_reduce_coalesced([{", ".join(sources)}], "{group.name}"{op})'
    items = []
    for conversion, source in zip(conversions, sources):
        own = single_step(conversion)
        assert own is not None
        factors = program.partition.axes.factors[conversion.tensor]
        items.append(f"({source}, {own.before}, {own.slot}, {grouped(own.after, factors)})")
    return f'ctx.{step.kind}_coalesced([{", ".join(items)}], "{group.name}"{op})'


def boundary_runs(
    program: Program, constants: Constants, instances: list[tuple[Conversion, tuple[int, ...]]]
) -> list[list[tuple[Conversion, tuple[int, ...]]]]:
    """Conversions between two tasks, those that may share a message together, in order."""
    runs: dict[object, list[tuple[Conversion, tuple[int, ...]]]] = {}
    size: dict[object, int] = {}
    serial = 0
    for conversion, key in instances:
        assert conversion.scope == BOUNDARY
        shared = bucket_key(program, constants, conversion)
        if shared is None:
            serial += 1
            runs["alone", serial] = [(conversion, key)]
            continue
        name = (shared, key, size.get((shared, key), 0) // LARGEST_BYTES)
        runs.setdefault(name, []).append((conversion, key))
        size[shared, key] = size.get((shared, key), 0) + num_bytes(program, conversion)
    return list(runs.values())

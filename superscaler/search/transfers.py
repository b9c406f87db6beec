"""Transfers: the communications between a program's tasks, for the scheduler."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import product

from superscaler.cluster.cluster import Cluster
from superscaler.cluster.profile import Profile
from superscaler.materialize.conversion import Route
from superscaler.materialize.program import BOUNDARY, Program, Read
from superscaler.runtime.by_time import Time
from superscaler.schedule.costs import Part, Transfer
from superscaler.schedule.segments import Segment
from superscaler.search.costs import SegmentCost, conversion_costs

NOBODY = -1


def transfers_of(program: Program, cluster: Cluster, profile: Profile | None) -> list[Transfer]:
    """A transfer for each conversion between segments that takes time, at each of its times.

    Parameters come from no task: they are gathered before the first that reads them.
    """
    costs = conversion_costs(program, cluster, profile)
    graph, home = program.partition.graph, program.tasks.home
    readers: dict[int, set[int]] = defaultdict(set)
    for (op, _), read in program.reads.items():
        if read.conversion >= 0:
            readers[read.conversion].add(home[op])
    found = []
    for c in program.conversions:
        if c.scope != BOUNDARY:
            continue
        maker = home[graph.producer[c.tensor][0]] if c.tensor in graph.producer else NOBODY
        others = sorted(readers[c.id] - {maker})
        parts = {r: _by_key(program, c.route, r) for r in others}
        for key in c.route.all_keys() if others else ():
            cost = costs[c.id, key]
            if cost.duration_us > 0:
                times = c.route.source_times(key) if maker != NOBODY else ()
                sources = tuple((maker, time) for time in times)
                written = tuple(key[i] for i in c.route.written)
                reading = tuple((r, time) for r in others for time in parts[r][written])
                found.append(
                    Transfer(
                        sources, reading, cost.ranks, cost.link, cost.duration_us, cost.latency_us
                    )
                )
    return found


def left_under_way(program: Program, costs: Sequence[SegmentCost]) -> list[Transfer]:
    """A transfer for what each task leaves under way, to those that wait for it: what replicas
    reduce at each microbatch, above all."""
    reads = _reads_by_name(program)
    found = []
    for segment, cost in zip(program.tasks.segments, costs, strict=True):
        for left, time in product(cost.left, _times(segment)):
            parts: dict[Part, None] = {}
            for name, kept in left.values:
                for reader, read in reads[name]:
                    if reader != segment.id:
                        parts.update(dict.fromkeys(_waiting(program, reader, read, kept, time)))
            if parts:
                devices = tuple(sorted(set(segment.grid.at(time).ravel().tolist())))
                source = ((segment.id, time),)
                found.append(Transfer(source, tuple(parts), devices, left.link, left.duration_us))
    return found


def _reads_by_name(program: Program) -> dict[str, dict[tuple[int, Read], None]]:
    """Who reads a value that a task writes, also by way of a conversion, by the value's name."""
    found: dict[str, dict[tuple[int, Read], None]] = defaultdict(dict)
    for (op, _), read in program.reads.items():
        conversion = program.conversions[read.conversion] if read.conversion >= 0 else None
        reader = (program.tasks.home[op], read)
        found[read.value.name][reader] = None
        if conversion is not None and conversion.scope != program.tasks.home[op]:
            found[conversion.source_name][reader] = None
    return found


def _waiting(
    program: Program, reader: int, read: Read, kept: tuple[int, ...], made_at: Time
) -> Iterator[Part]:
    """The tasks of a segment that read what is made at a time; the value has times `kept`."""
    made = tuple(made_at[position] for position in kept)
    for time in _times(program.tasks.segments[reader]):
        if read.conversion >= 0 and program.conversions[read.conversion].scope == BOUNDARY:
            route = program.conversions[read.conversion].route
            is_read = made_at in route.source_times(route.key_of(time))
        else:
            at = (time[t] if isinstance(t, int) else t[0] for t in read.value.time)
            is_read = tuple(at) == made
        if is_read:
            yield reader, time


def _times(segment: Segment) -> list[Time]:
    return list(product(*(range(n) for n in segment.time_shape)))


def _by_key(program: Program, route: Route, reader: int) -> dict[Time, list[Time]]:
    """The times of a reading segment, by the time key of what it reads."""
    found: dict[Time, list[Time]] = defaultdict(list)
    for time in _times(program.tasks.segments[reader]):
        found[route.key_of(time)].append(time)
    return found

"""Transfers: the communications between a program's tasks, for the scheduler."""

from __future__ import annotations

from collections import defaultdict
from itertools import product

from superscaler.cluster.cluster import Cluster
from superscaler.cluster.profile import Profile
from superscaler.emit.constants import Time
from superscaler.materialize.conversion import Route
from superscaler.materialize.program import BOUNDARY, Program
from superscaler.schedule.costs import Transfer
from superscaler.simulate.costs import conversion_costs


def transfers_of(program: Program, cluster: Cluster, profile: Profile | None) -> list[Transfer]:
    """A transfer for each conversion between segments that takes time, at each of its times.

    What is made of parameters alone is sent when it is read, and is none.
    """
    costs = conversion_costs(program, cluster, profile)
    graph, home = program.partition.graph, program.tasks.home
    readers: dict[int, set[int]] = defaultdict(set)
    for (op, _), read in program.reads.items():
        if read.conversion >= 0:
            readers[read.conversion].add(home[op])
    found = []
    for c in program.conversions:
        if c.scope != BOUNDARY or c.tensor not in graph.producer:
            continue
        maker = home[graph.producer[c.tensor][0]]
        others = sorted(readers[c.id] - {maker})
        parts = {r: _by_key(program, c.route, r) for r in others}
        for key in c.route.all_keys() if others else ():
            cost = costs[c.id, key]
            if cost.duration_us > 0:
                sources = tuple((maker, time) for time in c.route.source_times(key))
                written = tuple(key[i] for i in c.route.written)
                reading = tuple((r, time) for r in others for time in parts[r][written])
                found.append(
                    Transfer(
                        sources, reading, cost.ranks, cost.link, cost.duration_us, cost.latency_us
                    )
                )
    return found


def _by_key(program: Program, route: Route, reader: int) -> dict[Time, list[Time]]:
    """The times of a reading segment, by the time key of what it reads."""
    found: dict[Time, list[Time]] = defaultdict(list)
    for time in product(*(range(n) for n in program.tasks.segments[reader].time_shape)):
        found[route.key_of(time)].append(time)
    return found

"""Deadlocks: ranks of an emitted program that wait for each other in a circle."""

from __future__ import annotations

from collections.abc import Iterator

from superscaler.emit.parse import Entry, Key, Listing, key_of
from superscaler.emit.rendezvous import Event, Problem, Rendezvous
from superscaler.runtime.program import MARKS
from superscaler.units import named_ranks

NAMED = 3  # tasks between two communications that a report names


def deadlocks(met: Rendezvous) -> list[Problem]:
    """The first circle of ranks that wait for each other, [] when every rank gets to its end.

    An event is over when what its rank did before is over and, for all others that take part in it,
    what they did before is over. (Sends are over at once.) So nothing hangs iff this has no cycle.
    """
    state: dict[Event, int] = {}  # 1: on the stack, 2: over
    for name, listing in met.files.listings.items():
        for number in range(len(listing.events)):
            cycle = _visit(met, (name, number), state)
            if cycle:
                return [Problem("deadlock", _text(met, cycle))]
    return []


def _needs(met: Rendezvous, event: Event) -> Iterator[Event]:
    """The events that must be over before `event` can be."""
    name, number = event
    if number:
        yield name, number - 1
    for program, other in met.waits.get(event, ()):
        if other:
            yield program, other - 1


def _visit(met: Rendezvous, start: Event, state: dict[Event, int]) -> list[Event]:
    """Walk what `start` needs, depth first; the cycle when one is found."""
    if start in state:
        return []
    stack = [(start, _needs(met, start))]
    state[start] = 1
    while stack:
        event, needs = stack[-1]
        following = next(needs, None)
        if following is None:
            state[event] = 2
            stack.pop()
        elif following not in state:
            state[following] = 1
            stack.append((following, _needs(met, following)))
        elif state[following] == 1:
            path = [e for e, _ in stack]
            return path[path.index(following) :]
    return []


# what is said

Edge = tuple[Event, bool, Event]  # an event, whether it is of another rank, what it waits for


def _text(met: Rendezvous, cycle: list[Event]) -> str:
    """The cycle, edge by edge: a rank waits for another (data), which first does something else
    (data, order, or resource)."""
    lines = ["these ranks wait for each other and never go on"]
    for event, is_elsewhere, needed in _edges(cycle):
        kind = "data" if is_elsewhere else _own_kind(met.listing(event), event[1], needed[1])
        does = "waits for" if is_elsewhere else "comes after"
        lines.append(f"  {_named(met, event)} {does} {_named(met, needed)} ({kind})")
    lines.append("  change the order of one of these ranks' tasks")
    return "\n".join(lines)


def _edges(cycle: list[Event]) -> list[Edge]:
    """Waiting for other ranks and, in one edge each, what a rank does between."""
    edges: list[Edge] = []
    for event, needed in zip(cycle, [*cycle[1:], cycle[0]]):
        if needed != (event[0], event[1] - 1):
            partner = (needed[0], needed[1] + 1)
            edges.append((event, True, partner))
            event = partner
        edges.append((event, False, needed))
    first = next(i for i, (_, is_elsewhere, _) in enumerate(edges) if is_elsewhere)
    joined: list[Edge] = []
    for edge in [*edges[first:], *edges[:first]]:
        if joined and not edge[1] and not joined[-1][1]:
            joined[-1] = (joined[-1][0], False, edge[2])
        else:
            joined.append(edge)
    return joined


def _own_kind(listing: Listing, later: int, earlier: int) -> str:
    """Why a rank does one event after another: by lines of one task, because it needs what the
    other brings, or because it does one task at a time."""
    (b, _), (a, _) = listing.events[later], listing.events[earlier]
    if a == b:
        return "order: lines of one task"
    through = _data_path(listing.entries[a : b + 1])
    if through is None:
        return "resource: the rank's own sequence"
    between = [str(entry) for entry in through[1:-1]]
    if not between:
        return "data"
    more = f" and {len(between) - NAMED} more" if len(between) > NAMED else ""
    return f"data: through {', '.join(between[:NAMED])}{more}"


def _data_path(entries: tuple[Entry, ...]) -> list[Entry] | None:
    """Tasks from the first to the last of which each reads what the one before writes."""
    came: dict[int, int] = {0: -1}
    made = _written(entries[0], 0)
    for number, entry in enumerate(entries[1:], 1):
        source = _source(entry, made)
        if source is not None:
            came[number] = source
            made |= _written(entry, number)
    at, path = len(entries) - 1, []
    if at not in came:
        return None
    while at >= 0:
        path.append(entries[at])
        at = came[at]
    return path[::-1]


def _written(entry: Entry, number: int) -> dict[Key, int]:
    return {key_of(spec.rstrip(MARKS), entry): number for spec in entry.writes}


def _source(entry: Entry, made: dict[Key, int]) -> int | None:
    """The first task from which an entry reads something."""
    found = []
    for spec in entry.reads:
        if spec.endswith("@*"):
            found += [n for key, n in made.items() if key[0] == spec.removesuffix("@*")]
        elif (key := key_of(spec, entry)) in made:
            found.append(made[key])
    return min(found, default=None)


def _named(met: Rendezvous, event: Event) -> str:
    """`rank 1: recv of c0 (layers.0.add) in convert_0(0)`."""
    return f"{named_ranks(met.listing(event).ranks, 4)}: {met.describe(event)}"

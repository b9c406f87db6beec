"""Assemble: every rank's list of calls, and the functions they call, shared where equal."""

from __future__ import annotations

from superscaler.emit.boundary import boundary_function, bucket_function, participants, role
from superscaler.emit.buckets import boundary_runs
from superscaler.emit.emission import Emission, is_even
from superscaler.emit.listing import Listing
from superscaler.emit.segment import segment_function
from superscaler.emit.settle import settle_copies
from superscaler.materialize.program import BOUNDARY, Conversion, Program
from superscaler.runtime.by_time import Time
from superscaler.schedule.segments import Segment


def assemble(program: Program) -> Listing:
    """All ranks' schedules, in one global order of tasks and conversions."""
    emission = Emission(program)
    find_outside_reads(emission)
    listing = Listing(emission)
    for rank in range(program.partition.num_devices):
        listing.schedules[rank] = []
    instances = _conversion_instances(program)
    names = segment_names(program)
    for position, task_id in enumerate(program.timed.order):
        _place_conversions(listing, instances.get(2 * position - 1, []))
        task = program.tasks.tasks[task_id]
        _place_task(listing, program.tasks.segments[task.segment], task.time, names[task.segment])
        _place_conversions(listing, instances.get(2 * position, []))
    settle_copies(listing, names)
    return listing


def segment_names(program: Program) -> list[str]:
    """A Python name for each segment, from its label and phase."""
    names: list[str] = []
    for segment in program.tasks.segments:
        first = program.partition.graph.operators[segment.operators[0]]
        base = segment.label.replace(".", "_").replace("-", "_") or first.phase.value
        same = sum(1 for n in names if n == base or n.startswith(base + "_part"))
        names.append(base if not same else f"{base}_part{same}")
    return names


def find_outside_reads(emission: Emission) -> None:
    """Which values are read outside the segment that makes them."""
    program = emission.program
    home = program.tasks.home
    producer = program.partition.graph.producer
    for conversion in program.conversions:
        made = home[producer[conversion.tensor][0]] if conversion.tensor in producer else BOUNDARY
        if conversion.scope != made:
            emission.read_outside.add(conversion.source_name)
        if conversion.at_producer:
            emission.inline.setdefault(producer[conversion.tensor][0], []).append(conversion)
    for (op, i), read in program.reads.items():
        tensor = program.partition.graph.operators[op].inputs[i]
        if read.conversion >= 0:
            if program.conversions[read.conversion].scope != home[op]:
                emission.read_outside.add(read.value.name)
        elif tensor in producer and home[producer[tensor][0]] != home[op]:
            emission.read_outside.add(read.value.name)
    emission.read_outside |= {r.value.name for r in program.results}
    emission.read_outside |= {value.name for _, value, _ in program.new_buffers}


def _conversion_instances(program: Program) -> dict[int, list[tuple[Conversion, Time]]]:
    """Boundary conversions by when they run: 2 p after, 2 p - 1 before the p-th task in order."""
    position = {task: p for p, task in enumerate(program.timed.order)}
    readers = _reader_positions(program, position)
    ahead = _one_ahead(program, readers)
    found: dict[int, list[tuple[Conversion, Time]]] = {}
    producer, home = program.partition.graph.producer, program.tasks.home
    for conversion in program.conversions:
        if conversion.scope != BOUNDARY:
            continue
        for key in conversion.route.all_keys():
            if (conversion.id, key) in ahead:
                at = 2 * ahead[conversion.id, key] - 1
            elif conversion.tensor in producer:
                segment = home[producer[conversion.tensor][0]]
                numbers = [
                    program.tasks.number[segment, t] for t in conversion.route.source_times(key)
                ]
                at = 2 * max(position[n] for n in numbers)
            else:
                last = len(position) - 1
                at = 2 * readers.get((conversion.id, key), last) - 1
            found.setdefault(at, []).append((conversion, key))
    return found


def _one_ahead(
    program: Program, readers: dict[tuple[int, Time], int]
) -> dict[tuple[int, Time], int]:
    """For pieces that are dealt one after the other: the position of the task that reads the piece
    before; of the piece's own reader for the first."""
    turns: dict[tuple[int, tuple[Time, ...]], list[tuple[int, Time]]] = {}
    for (number, key), at in readers.items():
        route = program.conversions[number].route
        if route.is_dealt:
            turns.setdefault((number, tuple(route.source_times(key))), []).append((at, key))
    found = {}
    for (number, _), pieces in turns.items():
        ordered = sorted(pieces)
        for (before, _), (_, key) in zip([ordered[0], *ordered], ordered):
            found[number, key] = before
    return found


def _reader_positions(program: Program, position: dict[int, int]) -> dict[tuple[int, Time], int]:
    """(conversion, time key) -> position of the first task that reads the converted value."""
    producer = program.partition.graph.producer
    pairs = set()
    for (op, _), read in program.reads.items():
        if read.conversion < 0:
            continue
        conversion = program.conversions[read.conversion]
        is_waited_for = conversion.tensor not in producer or conversion.route.is_dealt
        if conversion.scope == BOUNDARY and is_waited_for:
            pairs.add((conversion.id, program.tasks.home[op]))
    by_segment: dict[int, list[int]] = {}
    for task in program.tasks.tasks:
        by_segment.setdefault(task.segment, []).append(task.id)
    found: dict[tuple[int, Time], int] = {}
    for conversion_id, segment in sorted(pairs):
        route = program.conversions[conversion_id].route
        for task_id in by_segment[segment]:
            key = (conversion_id, route.key_of(program.tasks.tasks[task_id].time))
            found[key] = min(found.get(key, len(position)), position[task_id])
    return found


def _place_task(listing: Listing, segment: Segment, time: Time, name: str) -> None:
    emission = listing.emission
    ranks = [int(r) for r in segment.grid.at(time).ravel()]
    if is_even_cached(listing, segment):
        key = f"{name}|even"
        if key not in listing.texts:
            part = (0,) * len(segment.grid.shape)
            listing.texts[key] = listing.place(name, segment_function(emission, segment, part))
            listing.segment_of[listing.texts[key]] = segment.id
        for rank in ranks:
            listing.schedules[rank].append((listing.texts[key], time))
        return
    for rank in ranks:
        part = emission.part_index(segment)(rank, time)
        placed = listing.place(name, segment_function(emission, segment, part))
        listing.segment_of[placed] = segment.id
        listing.schedules[rank].append((placed, time))


def is_even_cached(listing: Listing, segment: Segment) -> bool:
    key = f"even|{segment.id}"
    if key not in listing.texts:
        listing.texts[key] = "yes" if is_even(listing.emission.program, segment) else ""
    return bool(listing.texts[key])


def _place_conversions(listing: Listing, instances: list[tuple[Conversion, Time]]) -> None:
    """Conversions between two tasks, those of one kind and group in one message."""
    if not instances:
        return
    emission = listing.emission
    for run in boundary_runs(emission.program, emission.constants, instances):
        if len(run) == 1:
            _place_conversion(listing, *run[0])
            continue
        members, key = [c for c, _ in run], run[0][1]
        for rank in participants(members[0].route, key):
            memo = f"{[c.name for c in members]}|{role(members[0].route, rank, key)}"
            if memo not in listing.texts:
                base = f"convert_{members[0].id}_to_{members[-1].id}"
                function = bucket_function(emission, members, rank, key)
                listing.texts[memo] = listing.place(base, function)
            listing.schedules[rank].append((listing.texts[memo], key))


def _place_conversion(listing: Listing, conversion: Conversion, key: Time) -> None:
    route = conversion.route
    for rank in participants(route, key):
        memo = f"{conversion.name}|{role(route, rank, key)}"
        if memo not in listing.texts:
            function = boundary_function(listing.emission, conversion, rank, key)
            listing.texts[memo] = listing.place(f"convert_{conversion.id}", function)
        listing.schedules[rank].append((listing.texts[memo], key))

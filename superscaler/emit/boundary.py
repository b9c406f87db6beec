"""The text of conversions between tasks, as each rank that takes part sees them."""

from __future__ import annotations

from math import prod

from superscaler.emit.buckets import coalesced_text
from superscaler.emit.constants import Time
from superscaler.emit.exchange import exchange_constant
from superscaler.emit.function import Function, spec
from superscaler.emit.literals import Constant
from superscaler.emit.segment import Emission, conversion_comment
from superscaler.emit.steps import emit_steps, grouped, path_at
from superscaler.materialize.conversion import Route
from superscaler.materialize.general import exchanges
from superscaler.materialize.program import Conversion
from superscaler.transform.match import ALL, FIRST


def participants(route: Route, key: Time) -> list[int]:
    """The ranks that take part in a conversion at a time key."""
    if route.paths is None:
        return sorted(exchanges(route, key))
    path = route.paths[key]
    return sorted({*path.source.ravel().tolist(), *path.target.ravel().tolist()})


def boundary_function(emission: Emission, conversion: Conversion, rank: int, key: Time) -> Function:
    """What `rank` does in `conversion` at time key `key`."""
    function = Function(conversion_comment(emission.program, conversion))
    if conversion.route.paths is None:
        _general(emission, conversion, rank, key, function)
    else:
        _regular(emission, conversion, rank, key, function)
    return function


def bucket_function(emission: Emission, members: list[Conversion]) -> Function:
    """Several conversions between tasks in one message."""
    function = Function(f"{len(members)} together, first {conversion_comment(emission.program, members[0])}")
    sources = [_source(emission, c, function) for c in members]
    names = tuple(c.name for c in members)
    text = coalesced_text(emission.program, emission.constants, members, sources)
    function.add(f"{', '.join(names)} = {text}", names, tuple(sources))
    function.writes += [(c.name, _writes(c)) for c in members]
    return function


def _writes(conversion: Conversion) -> str:
    return spec(conversion.name, tuple(range(len(conversion.route.keys))))


def _general(emission: Emission, conversion: Conversion, rank: int, key: Time, function: Function) -> None:
    tensor = emission.program.partition.graph.tensors[conversion.tensor]
    mine = exchanges(conversion.route, key)[rank]
    constant = exchange_constant(emission.program, emission.constants, conversion)
    parts = function.read("parts", f"{conversion.source_name}@*") if mine.slots else "{}"
    shape = grouped(mine.out, emission.factors(conversion.tensor)) if mine.out is not None else None
    text = f'{conversion.name} = ctx.exchange({parts}, "{constant.name}", {shape}, {tensor.dtype})'
    function.add(text, (conversion.name,), (parts,) if mine.slots else ())
    if mine.out is not None:
        function.writes.append((conversion.name, _writes(conversion)))


def _regular(emission: Emission, conversion: Conversion, rank: int, key: Time, function: Function) -> None:
    route, name = conversion.route, conversion.name
    assert route.paths is not None
    path = route.paths[key]
    factors = emission.factors(conversion.tensor)
    at = next((i for i, s in enumerate(path.steps) if s.kind == "move"), len(path.steps))
    moves = at < len(path.steps)
    sends, receives = rank in path.source, rank in path.target
    variable = ""
    if sends:
        variable = _source(emission, conversion, function)
        emit_steps(function, name, variable, route, path.steps[:at], factors, emission.constants, "", moves and at > 0)
        variable = name if at else variable
    if moves and sends:
        function.add(f'ctx.send({variable}, "{_peer(emission, route, "to").name}")', (), (variable,))
    if not receives:
        return
    if moves:
        shape = grouped(path.steps[at].after, factors)
        dtype = emission.program.partition.graph.tensors[conversion.tensor].dtype
        sender = _peer(emission, route, "from")
        function.add(f'{name} = ctx.recv("{sender.name}", {shape}, {dtype})', (name,))
        rest = path.steps[at + 1 :]
        if rest:
            function.add(f"{name} = ctx.wait({name})", (name,), (name,))
        emit_steps(function, name, name, route, rest, factors, emission.constants, "")
        variable = name
    function.writes.append((variable, _writes(conversion)))


def _source(emission: Emission, conversion: Conversion, function: Function) -> str:
    """The variable with this rank's own part, parts in time joined."""
    route = conversion.route
    items = [
        "all" if s == ALL else (0,) if s == FIRST else route.keys.index(s) for s in route.match.sources
    ]
    if route.collapse in ("sum", "max"):
        kept = tuple(i for i in items if i != "all")
        return function.read(conversion.source_name, spec(conversion.source_name, kept))
    if not route.collapse:
        return function.read(conversion.source_name, spec(conversion.source_name, tuple(items)))
    where = items.index("all")
    count = route.source.grid.time_shape[where]
    parts = [
        function.read(f"part{n}", spec(conversion.source_name, tuple((n,) if i == "all" else i for i in items)))
        for n in range(count)
    ]
    slots = _part_sizes(route, count)
    whole = list(slots)
    whole[route.concat_slot] *= count
    shape = grouped(tuple(whole), emission.factors(conversion.tensor))
    listed = ", ".join(f"{p}.reshape({slots})" for p in parts)
    name = conversion.name
    function.add(f"{name} = torch.cat([{listed}], {route.concat_slot}).reshape({shape})", (name,), tuple(parts))
    return name


def _part_sizes(route: Route, count: int) -> tuple[int, ...]:
    return route.source.local_sizes((0,) * len(route.source.grid.shape))


def _peer(emission: Emission, route: Route, direction: str) -> Constant:
    """The rank that this one sends to, or receives from, in the route's move."""

    def value(rank: int, time: Time) -> int:
        path = path_at(route, time)
        mine, theirs = (path.source, path.target) if direction == "to" else (path.target, path.source)
        flat = mine.ravel().tolist()
        return int(theirs.ravel()[flat.index(rank)]) if rank in flat else -1

    assert route.paths is not None
    arrays = {(p.source.tobytes(), p.target.tobytes(), prod(p.source.shape)) for p in route.paths.values()}
    key = next(iter(arrays)) if len(arrays) == 1 else (route.source.key, route.target.key)
    return emission.constants.get(direction, (direction, key), value)

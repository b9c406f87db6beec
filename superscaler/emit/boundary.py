"""The text of conversions between tasks, as each rank that takes part sees them."""

from __future__ import annotations

from collections.abc import Hashable

from superscaler.emit.buckets import coalesced_text, is_move
from superscaler.emit.comments import conversion_comment
from superscaler.emit.emission import Emission
from superscaler.emit.exchange import exchange_constant
from superscaler.emit.function import Function, spec
from superscaler.emit.steps import emit_steps, grouped, peer_constant
from superscaler.materialize.conversion import Route
from superscaler.materialize.general import exchanges
from superscaler.materialize.program import Conversion
from superscaler.runtime.by_time import Time
from superscaler.transform.match import ALL, FIRST

Position = int | tuple[int]  # of a time index: a position in the task's, or (n,): the constant n


def participants(route: Route, key: Time) -> list[int]:
    """The ranks that take part in a conversion at a time key."""
    if route.paths is None:
        return sorted(exchanges(route, key))
    path = route.paths[key]
    return sorted({*path.source.ravel().tolist(), *path.target.ravel().tolist()})


def role(route: Route, rank: int, key: Time) -> Hashable:
    """What the function of a conversion depends on, beside the conversion: ranks and time keys of
    one role have the same."""
    if route.paths is None:
        mine = exchanges(route, key)[rank]
        return bool(mine.slots), mine.out
    path = route.paths[key]
    return rank in path.source, rank in path.target


def boundary_function(emission: Emission, conversion: Conversion, rank: int, key: Time) -> Function:
    """What `rank` does in `conversion` at time key `key`."""
    function = Function(
        conversion_comment(emission.program, conversion), conversions=(conversion.id,)
    )
    if conversion.route.paths is None:
        _general(emission, conversion, rank, key, function)
    else:
        _regular(emission, conversion, rank, key, function)
    return function


def bucket_function(
    emission: Emission, members: list[Conversion], rank: int, key: Time
) -> Function:
    """What `rank` does in several conversions between tasks that share one message."""
    function = Function(
        f"{len(members)} together, first {conversion_comment(emission.program, members[0])}",
        conversions=tuple(c.id for c in members),
    )
    if is_move(members[0]):
        _move_together(emission, members, rank, key, function)
        return function
    sources = [_source(emission, c, function) for c in members]
    names = tuple(c.name for c in members)
    text = coalesced_text(emission.program, emission.constants, members, sources)
    function.add(f"{', '.join(names)} = {text}", names, tuple(sources))
    function.writes += [(c.name, _writes(c)) for c in members]
    return function


def _move_together(
    emission: Emission, members: list[Conversion], rank: int, key: Time, function: Function
) -> None:
    paths = [c.route.paths[key] for c in members if c.route.paths]
    route = members[0].route
    if rank in paths[0].source:
        sources = [_source(emission, c, function) for c in members]
        peer = peer_constant(emission.constants, route, "to")
        function.add(
            f'ctx.send_coalesced([{", ".join(sources)}], "{peer.name}")', (), tuple(sources)
        )
    if rank in paths[0].target:
        names = tuple(c.name for c in members)
        shapes = tuple(
            grouped(path.steps[0].after, emission.factors(c.tensor))
            for path, c in zip(paths, members)
        )
        dtype = emission.program.partition.graph.tensors[members[0].tensor].dtype
        peer = peer_constant(emission.constants, route, "from")
        function.add(
            f'{", ".join(names)} = ctx.recv_coalesced("{peer.name}", {shapes}, {dtype})', names
        )
        function.writes += [(c.name, _writes(c)) for c in members]


def _writes(conversion: Conversion) -> str:
    route = conversion.route
    return spec(conversion.name, route.written) + ("+" if route.is_collected else "")


def _general(
    emission: Emission, conversion: Conversion, rank: int, key: Time, function: Function
) -> None:
    tensor = emission.program.partition.graph.tensors[conversion.tensor]
    mine = exchanges(conversion.route, key)[rank]
    constant = exchange_constant(emission.program, emission.constants, conversion)
    parts, uses = _parts(conversion, function) if mine.slots else ("{}", ())
    shape = grouped(mine.out, emission.factors(conversion.tensor)) if mine.out is not None else None
    text = f'{conversion.name} = ctx.exchange({parts}, "{constant.name}", {shape}, {tensor.dtype})'
    function.add(text, (conversion.name,), uses)
    if mine.out is not None:
        function.writes.append((conversion.name, _writes(conversion)))


def _parts(conversion: Conversion, function: Function) -> tuple[str, tuple[str, ...]]:
    """The source parts by time index, as text, and the variables in it."""
    route, name = conversion.route, conversion.source_name
    if not route.has_one_source:
        parts = function.read("parts", f"{name}@*")
        return parts, (parts,)
    if route.is_collected:
        times: tuple[Position, ...] = tuple(range(len(route.match.sources)))
    else:
        times = tuple((0,) if s == FIRST else route.keys.index(s) for s in route.match.sources)
    part = function.read(name, spec(name, times))
    return f"{{(): {part}}}", (part,)


def _regular(
    emission: Emission, conversion: Conversion, rank: int, key: Time, function: Function
) -> None:
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
        emit_steps(
            function,
            name,
            variable,
            route,
            path.steps[:at],
            factors,
            emission.constants,
            "",
            moves and at > 0,
        )
        variable = name if at else variable
    if moves and sends:
        function.add(
            f'ctx.send({variable}, "{peer_constant(emission.constants, route, "to").name}")',
            (),
            (variable,),
        )
    if not receives:
        return
    if moves:
        shape = grouped(path.steps[at].after, factors)
        dtype = emission.program.partition.graph.tensors[conversion.tensor].dtype
        sender = peer_constant(emission.constants, route, "from")
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
    sources = [route.match.sources[i] for i in route.kept]
    items: list[Position | None] = [
        None if s == ALL else (0,) if s == FIRST else route.keys.index(s) for s in sources
    ]
    if route.concat_slot < 0:
        kept = tuple(i for i in items if i is not None)
        return function.read(conversion.source_name, spec(conversion.source_name, kept))
    count = route.source.grid.time_shape[route.kept[items.index(None)]]
    parts = [
        function.read(
            f"part{n}", spec(conversion.source_name, tuple((n,) if i is None else i for i in items))
        )
        for n in range(count)
    ]
    slots = _part_sizes(route, count)
    whole = list(slots)
    whole[route.concat_slot] *= count
    shape = grouped(tuple(whole), emission.factors(conversion.tensor))
    listed = ", ".join(f"{p}.reshape({slots})" for p in parts)
    name = conversion.name
    function.add(
        f"{name} = torch.cat([{listed}], {route.concat_slot}).reshape({shape})",
        (name,),
        tuple(parts),
    )
    return name


def _part_sizes(route: Route, count: int) -> tuple[int, ...]:
    return route.source.local_sizes((0,) * len(route.source.grid.shape))

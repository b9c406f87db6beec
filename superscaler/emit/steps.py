"""The text of conversions: steps between layouts, and the general path."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np

from superscaler.emit.constants import Constants
from superscaler.emit.function import Function
from superscaler.emit.literals import Constant
from superscaler.materialize.conversion import Route
from superscaler.materialize.rvd import Path, Step
from superscaler.runtime.by_time import Time


def grouped(sizes: tuple[int, ...], factors: tuple[int, ...]) -> tuple[int, ...]:
    """Slot sizes multiplied up to dims."""
    shape, at = [], 0
    for count in factors:
        shape.append(prod(sizes[at : at + count]))
        at += count
    return tuple(shape)


def emit_steps(
    function: Function,
    variable: str,
    source: str,
    route: Route,
    steps: tuple[Step, ...],
    factors: tuple[int, ...],
    constants: Constants,
    comment: str,
    wait_last: bool = False,
) -> None:
    """Lines that bring `source` along `steps` into `variable`."""
    current = source
    for number, step in enumerate(steps):
        if number:
            function.add(f"{current} = ctx.wait({current})", (current,), (current,))
        text = step_text(current, route, step, factors, constants)
        function.add(f"{variable} = {text}", (variable,), (current,), comment)
        current = variable
    if wait_last:
        function.add(f"{variable} = ctx.wait({variable})", (variable,), (variable,))


def step_text(
    value: str, route: Route, step: Step, factors: tuple[int, ...], constants: Constants
) -> str:
    """The call of one step (all kinds but move)."""
    group = group_constant(route, step, constants)
    shape = grouped(step.after, factors)
    if step.kind == "all_reduce":
        op = "" if route.source.reduce == "sum" else f', op="{route.source.reduce}"'
        return f'ctx.all_reduce({value}, "{group.name}"{op})'
    if step.kind == "all_gather":
        return f'ctx.all_gather({value}, "{group.name}", {step.before}, {step.slot}, {shape})'
    if step.kind == "reduce_scatter":
        op = "" if route.source.reduce == "sum" else f', op="{route.source.reduce}"'
        return (
            f'ctx.reduce_scatter({value}, "{group.name}", {step.before}, {step.slot}, {shape}{op})'
        )
    if step.kind == "all_to_all":
        dims = f"{step.before}, {step.split}, {step.slot}"
        return f'ctx.all_to_all({value}, "{group.name}", {dims}, {shape})'
    assert step.kind == "chunk", step.kind
    index = coordinate_constant(route, step, constants)
    count = step.before[step.slot] // step.after[step.slot]
    return f'ctx.chunk({value}, {step.before}, {step.slot}, "{index.name}", {count}, {shape})'


def _array(path: Path, step: Step) -> np.ndarray:
    return path.target if step.moved else path.source


def _array_at(route: Route, step: Step) -> Callable[[Time], np.ndarray]:
    """The device array of a step by a task's time index. Where it is the same at all times, any
    route's time index will do: routes share the constant."""
    assert route.paths is not None
    arrays = [_array(p, step) for p in route.paths.values()]
    if all(np.array_equal(a, arrays[0]) for a in arrays):
        return lambda time: arrays[0]
    return lambda time: _array(path_at(route, time), step)


def _array_key(route: Route, step: Step) -> object:
    """Identifies the device array that a step's groups are cut from, whatever the route."""
    assert route.paths is not None
    arrays = {(_array(p, step).tobytes(), _array(p, step).shape) for p in route.paths.values()}
    return (
        next(iter(arrays)) if len(arrays) == 1 else (route.source.key, route.target.key, step.moved)
    )


def group_constant(route: Route, step: Step, constants: Constants) -> Constant:
    """The ranks that take part in a step together with this one, in order."""

    array_at = _array_at(route, step)

    def value(rank: int, time: Time) -> tuple[int, ...]:
        return group_of(array_at(time), rank, step.dims)

    return constants.get("group", ("group", _array_key(route, step), step.dims), value)


def coordinate_constant(route: Route, step: Step, constants: Constants) -> Constant:
    """This rank's place in its group."""

    array_at = _array_at(route, step)

    def value(rank: int, time: Time) -> int:
        return group_of(array_at(time), rank, step.dims).index(rank)

    return constants.get("place", ("place", _array_key(route, step), step.dims), value)


def path_at(route: Route, time: Time) -> Path:
    """The route's path for a running task's time index: a reader's, or a conversion's own key."""
    assert route.paths is not None
    if route.is_uniform:
        return next(iter(route.paths.values()))
    is_reader = len(time) == len(route.target.grid.time_dims)
    return route.paths[route.key_of(time) if is_reader else time]


def group_of(devices: np.ndarray, rank: int, dims: tuple[int, ...]) -> tuple[int, ...]:
    """The ranks that differ from `rank` only along `dims`, `dims` major to minor."""
    at = np.argwhere(devices == rank)[0]
    index: list[int | slice] = [slice(None) if d in dims else int(i) for d, i in enumerate(at)]
    block = devices[tuple(index)]
    kept = sorted(dims)
    order = [kept.index(d) for d in dims]
    return tuple(int(r) for r in block.transpose(order).ravel())


def peer_constant(constants: Constants, route: Route, direction: str) -> Constant:
    """The rank that this one sends to, or receives from, in the route's move."""

    def value(rank: int, time: Time) -> int:
        path = path_at(route, time)
        mine, theirs = (
            (path.source, path.target) if direction == "to" else (path.target, path.source)
        )
        flat = mine.ravel().tolist()
        return int(theirs.ravel()[flat.index(rank)]) if rank in flat else -1

    assert route.paths is not None
    arrays = {
        (p.source.tobytes(), p.target.tobytes(), prod(p.source.shape)) for p in route.paths.values()
    }
    key = next(iter(arrays)) if len(arrays) == 1 else (route.source.key, route.target.key)
    return constants.get(direction, (direction, key), value)

"""Layouts with data: what conversions do, on numpy arrays and all ranks at once."""

from __future__ import annotations

from itertools import product

import numpy as np

from superscaler.materialize.conversion import Route
from superscaler.materialize.general import exchanges
from superscaler.materialize.rvd import Path, Step
from superscaler.transform.layout import Layout

Parts = dict[int, np.ndarray]  # rank -> what it holds, one dim per slot


def pieces(layout: Layout, whole: np.ndarray) -> Parts:
    """Every rank's part; partial values are different and add up (or the largest is right)."""
    found: Parts = {}
    counts = [n for n, r in zip(layout.grid.shape, layout.roles) if r == -2]
    indices = list(product(*(range(n) for n in counts)))
    noise = np.random.default_rng(0)
    shares = [noise.integers(-9, 9, whole.shape) for _ in indices]
    if layout.reduce == "sum":
        shares[0] = whole - sum(shares[1:])
    else:
        shares = [
            np.where(s % len(indices) == n, whole, whole - 1)
            for n, s in enumerate([shares[0]] * len(indices))
        ]
    for part in layout.parts():
        share = shares[indices.index(layout.value(part))] if indices != [()] else whole
        box = tuple(slice(a, b) for a, b in layout.box(part))
        found[int(layout.grid.devices[part])] = share[box].copy()
    return found


def follow(path: Path, parts: Parts) -> Parts:
    """The parts after all steps of a path."""
    for step in path.steps:
        if step.kind == "move":
            pairs = zip(path.source.ravel().tolist(), path.target.ravel().tolist())
            parts = {there: parts[here] for here, there in pairs}
            continue
        devices = path.target if step.moved else path.source
        parts = {
            rank: _step(step, _group(devices, rank, step), rank, parts, path.reduce)
            for rank in parts
        }
    return parts


def _group(devices: np.ndarray, rank: int, step: Step) -> list[int]:
    """The ranks that take part together, by their coordinates along the step's dims."""
    at = next(i for i in np.ndindex(devices.shape) if devices[i] == rank)
    members = []
    for coordinates in product(*(range(devices.shape[d]) for d in step.dims)):
        index = list(at)
        for d, i in zip(step.dims, coordinates):
            index[d] = i
        members.append(int(devices[tuple(index)]))
    return members


def _step(step: Step, group: list[int], rank: int, parts: Parts, reduce: str) -> np.ndarray:
    mine, place = parts[rank], group.index(rank)
    combine = np.sum if reduce == "sum" else np.max
    assert mine.shape == step.before
    if step.kind == "all_reduce":
        result = combine([parts[r] for r in group], axis=0)
    elif step.kind == "all_gather":
        result = np.concatenate([parts[r] for r in group], step.slot)
    elif step.kind == "reduce_scatter":
        result = np.split(combine([parts[r] for r in group], axis=0), len(group), step.slot)[place]
    elif step.kind == "all_to_all":
        cuts = [np.split(parts[r], len(group), step.split)[place] for r in group]
        result = np.concatenate(cuts, step.slot)
    else:
        assert step.kind == "chunk"
        result = np.split(mine, len(group), step.slot)[place]
    assert result.shape == step.after
    return result


def exchange(route: Route, parts: Parts) -> Parts:
    """The parts after the general path, messages matched in order."""
    plan = exchanges(route, ())
    mail: dict[tuple[int, int], list[np.ndarray]] = {}
    for rank, mine in plan.items():
        for _, box, to in mine.send:
            mail.setdefault((rank, to), []).append(parts[rank][_index(box)])
    found: Parts = {}
    for rank, mine in plan.items():
        if mine.out is None:
            continue
        landed = [(parts[rank][_index(a)], b, add) for _, a, b, add in mine.local]
        landed += [(mail[frm, rank].pop(0), box, add) for frm, box, add in mine.recv]
        result = np.zeros(mine.out, dtype=int)
        for piece, box, add in sorted(landed, key=lambda item: bool(item[2])):
            here = result[_index(box)]
            joined = {False: piece, True: here + piece, "max": np.maximum(here, piece)}[add]
            result[_index(box)] = joined
        found[rank] = result
    assert not any(mail.values())
    return found


def _index(box: tuple[tuple[int, int], ...]) -> tuple[slice, ...]:
    return tuple(slice(a, b) for a, b in box)


def assert_holds(layout: Layout, whole: np.ndarray, parts: Parts) -> None:
    """Every rank has its box; partial values combine to it."""
    groups: dict[tuple[object, ...], list[np.ndarray]] = {}
    for part in layout.parts():
        rest = tuple(i for i, r in zip(part, layout.roles) if r != -2)
        groups.setdefault((layout.box(part), rest), []).append(
            parts[int(layout.grid.devices[part])]
        )
    for (box, _), shares in groups.items():
        combine = np.sum if layout.reduce == "sum" else np.max
        expected = whole[_index(box)]  # type: ignore[arg-type]
        assert np.array_equal(combine(shares, axis=0), expected)

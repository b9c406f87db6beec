"""Which rank owns which part of every parameter and buffer, and gathering them whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from superscaler.runtime.data import as_dtype
from superscaler.runtime.executor import RankExecutor
from superscaler.runtime.shards import Box, Slots, local_shape, put


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a parameter or buffer, and a rank that holds it."""

    rank: int
    slots: Slots
    box: Box


def parts_of(manifest: Mapping[str, Any], name: str) -> list[Part]:
    """The parts of a parameter or buffer, which together cover it."""
    entries = manifest["state_layout"][name]
    return [Part(rank, _tuples(slots), _tuples(box)) for rank, slots, box in entries]


def full_state_dict(executor: RankExecutor) -> dict[str, torch.Tensor]:
    """Gather every parameter and buffer, one at a time, on rank 0's CPU; {} on the other ranks.

    All ranks call it. Tied parameters appear under all their names.
    """
    own: dict[str, dict[tuple[Slots, Box], torch.Tensor]] = {}
    for placed, value in executor.placed_values():
        own.setdefault(placed.name, {})[placed.slots, placed.box] = value
    manifest = executor.program.manifest
    state: dict[str, torch.Tensor] = {}
    for name, entry in [*manifest["parameters"].items(), *manifest["buffers"].items()]:
        whole = gather(executor, name, entry, own.get(name, {}))
        if whole is not None:
            state.update(dict.fromkeys([name, *entry.get("aliases", ())], whole))
    return state


def gather(
    executor: RankExecutor,
    name: str,
    entry: Mapping[str, Any],
    own: Mapping[tuple[Slots, Box], torch.Tensor],
) -> torch.Tensor | None:
    """Gather on rank 0 a tensor laid out as the parameter or buffer `name`; all ranks call it.

    `entry` has its shape and dtype, `own` this rank's parts: the values, or gradients, or states.
    """
    parts = parts_of(executor.program.manifest, name)
    communicator = executor.communicator
    mine = [(part, own[part.slots, part.box]) for part in parts if part.rank == communicator.rank]
    if communicator.rank:
        communicator.transfer([(value.contiguous(), 0) for _, value in mine], ())
        communicator.finish_sends()
        return None
    dtype = as_dtype(entry["dtype"])
    others = [part for part in parts if part.rank]
    buffers = [
        (torch.empty(local_shape(part.box), dtype=dtype, device=executor.device), part.rank)
        for part in others
    ]
    received = communicator.transfer((), buffers).wait()
    whole = torch.empty(tuple(entry["shape"]), dtype=dtype)
    for part, value in [*mine, *zip(others, received, strict=True)]:
        put(whole, part.slots, part.box, value)
    return whole


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, (list, tuple)) else value

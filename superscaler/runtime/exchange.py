"""The general path: boxes of tensors move between ranks point to point.

A spec says what one rank does:

    local  [(t_src, src_box, dst_box, add)]   from this rank's part at t_src to its own result
    send   [(t_src, src_box, dst_rank)]       in the order in which dst_rank receives
    recv   [(src_rank, dst_box, add)]
    slots  the parts' factored local shape, or a dict of them by t_src
    out    the result's factored local shape, or None when this rank receives nothing

Boxes are (start, stop) per factor, in local coordinates. `add` False stores, True adds to what is
there, "max" takes the larger, "logsumexp" merges partial results of attention; stores come first,
so the order in the lists does not matter. Every
element of the result is stored exactly once.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import torch

from superscaler.runtime.communicator import Communicator
from superscaler.runtime.failures import ProgramError
from superscaler.runtime.kernels.attention_block import merge
from superscaler.runtime.pending import Pending
from superscaler.runtime.shards import cut

Time = tuple[int, ...]
Landing = tuple[torch.Tensor, Any, bool | str]  # piece, box in the result, add


def exchange(
    communicator: Communicator,
    parts: Mapping[Time, torch.Tensor],
    spec: Mapping[str, Any],
    shape: tuple[int, ...],
    dtype: torch.dtype,
    device: torch.device,
) -> Pending | None:
    """Start what `spec` says; the result is None when this rank receives nothing."""

    def piece_of(time: Time, box: Any) -> torch.Tensor:
        if time not in parts:
            raise ProgramError(
                f"an exchange needs part {time}, which nothing has written before; those that are "
                f"there: {sorted(parts)}"
            )
        return cut(parts[time].reshape(_slots(spec, time)), box)

    sends = [(piece_of(time, box).contiguous(), rank) for time, box, rank in spec.get("send", ())]
    receives = spec.get("recv", ())
    buffers = [
        (torch.empty([b - a for a, b in box], dtype=dtype, device=device), rank)
        for rank, box, _ in receives
    ]
    arrival = communicator.transfer(sends, buffers)
    if spec.get("out") is None:
        return None
    local: list[Landing] = [
        (piece_of(time, src_box), dst_box, add)
        for time, src_box, dst_box, add in spec.get("local", ())
    ]

    def land(received: list[torch.Tensor]) -> torch.Tensor:
        came: list[Landing] = [
            (piece, box, add) for piece, (_, box, add) in zip(received, receives, strict=True)
        ]
        return _assemble([*local, *came], spec["out"], shape, dtype, device)

    return arrival.then(land)


def _assemble(
    pieces: list[Landing],
    slots: tuple[int, ...],
    shape: tuple[int, ...],
    dtype: torch.dtype,
    device: torch.device,
) -> torch.Tensor:
    if len(pieces) == 1 and pieces[0][0].numel() == prod(slots):
        return pieces[0][0].reshape(shape)
    make = torch.empty if pieces else torch.zeros  # nothing came: a partial value of zero
    result = make(slots, dtype=dtype, device=device)
    for piece, box, add in pieces:
        if not add:
            cut(result, box).copy_(piece.reshape([b - a for a, b in box]))
    for piece, box, add in pieces:
        if add:
            target = cut(result, box)
            piece = piece.reshape(target.shape)
            if add == "logsumexp":
                target.copy_(merge(target, piece))
            elif add == "max":
                torch.maximum(target, piece, out=target)
            else:
                target.add_(piece)
    return result.reshape(shape)


def _slots(spec: Mapping[str, Any], time: Time) -> tuple[int, ...]:
    slots = spec["slots"]
    found: tuple[int, ...] = slots[time] if isinstance(slots, Mapping) else slots
    return found

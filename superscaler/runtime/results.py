"""Loss, metrics and gradient norm travel from the ranks that compute them to all ranks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from superscaler.runtime.communicator import Communicator
from superscaler.runtime.failures import ProgramError
from superscaler.runtime.program import Key, RankProgram

Results = tuple[Any, dict[str, Any], Any]  # loss, metrics, gradient norm


class ResultSharing:
    """One message a step: the results as float64, packed.

    Results are scalars, but for metrics whose manifest entry is {"owner", "shape"} instead of the
    owner's rank.
    """

    def __init__(
        self, program: RankProgram, communicator: Communicator, device: torch.device
    ) -> None:
        manifest = program.manifest["results"]
        self._communicator = communicator
        self._device = device
        self._ranks = tuple(range(program.world_size))
        self._metrics = sorted(manifest.get("metrics", {}))
        self._has_norm = manifest.get("grad_norm") is not None
        entries = [manifest["loss"], *(manifest["metrics"][name] for name in self._metrics)]
        entries += [manifest["grad_norm"]] if self._has_norm else []
        self._owners = [_owner(entry) for entry in entries]
        self._shapes = [_shape(entry) for entry in entries]
        self._keys = self._own_keys(program)

    def share(self, value_of: Callable[[Key], torch.Tensor]) -> Results:
        """All results on every rank, given the value of a key on this rank."""
        parts = [
            self._zeros(shape) if key is None else value_of(key).reshape(-1).to(torch.float64)
            for key, shape in zip(self._keys, self._shapes, strict=True)
        ]
        packed = self._exchange(torch.cat(parts)).split_with_sizes(
            [shape.numel() for shape in self._shapes]
        )
        values = [x.view(shape) for x, shape in zip(packed, self._shapes, strict=True)]
        norm = values.pop() if self._has_norm else None
        return values[0], dict(zip(self._metrics, values[1:], strict=True)), norm

    def _exchange(self, packed: torch.Tensor) -> torch.Tensor:
        owners = set(self._owners)
        if len(self._ranks) == 1:
            return packed
        if len(owners) == 1:
            pending = self._communicator.broadcast(packed, self._ranks, owners.pop())
        else:
            pending = self._communicator.all_reduce(packed, self._ranks, "sum")
        shared: torch.Tensor = pending.wait()
        return shared

    def _zeros(self, shape: torch.Size) -> torch.Tensor:
        return torch.zeros(shape.numel(), dtype=torch.float64, device=self._device)

    def _own_keys(self, program: RankProgram) -> list[Key | None]:
        results = program.results
        metrics = results.get("metrics", {})
        keys = [results.get("loss"), *(metrics.get(name) for name in self._metrics)]
        keys += [results.get("grad_norm")] if self._has_norm else []
        for key, owner in zip(keys, self._owners, strict=True):
            if owner == program.rank and key is None:
                raise ProgramError(
                    f"rank {program.rank} owns a result by the manifest but has none of its keys"
                )
        return [
            k if owner == program.rank else None
            for k, owner in zip(keys, self._owners, strict=True)
        ]


def _owner(entry: Any) -> int:
    return int(entry["owner"] if isinstance(entry, dict) else entry)


def _shape(entry: Any) -> torch.Size:
    return torch.Size(entry.get("shape", ()) if isinstance(entry, dict) else ())

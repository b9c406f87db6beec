"""Checkpoints through torch.distributed.checkpoint, which load under any other plan.

What is stored is named by the model, not by the ranks: `model.<name>` is a parameter or buffer,
`optimizer.<name>.<key>` a state tensor of its shape, `optimizer.<name>` the rest of its state and
its group's options, `training` the step. A rank's part is stored as the rectangles of the whole
tensor that it covers, so a loader reads whichever rectangles meet its own part.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from math import prod
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from superscaler.runtime.executor import RankExecutor
from superscaler.runtime.failures import CheckpointError
from superscaler.runtime.layout import parts_of
from superscaler.runtime.pieces import LoadPlanner, Pieces, SavePlanner
from superscaler.runtime.program import Placed
from superscaler.runtime.shards import Chunk, chunks, subtract
from superscaler.runtime.update import shaped_states

Trained = tuple[Placed, torch.nn.Parameter]


def save_checkpoint(executors: RankExecutor | Sequence[RankExecutor], folder: str | Path) -> None:
    """Save parameters, buffers, optimizer state and step.

    Every rank calls it with its executor; for ranks that are threads one call takes them all.
    """
    given = [executors] if isinstance(executors, RankExecutor) else executors
    state: dict[str, Any] = {}
    for executor in given:
        executor.finish_copies()
        _add_state(state, executor)
    is_alone = not dist.is_initialized()
    with _without_advice():
        save(state, checkpoint_id=str(folder), planner=SavePlanner(), no_dist=is_alone)


def load_checkpoint(executor: RankExecutor, folder: str | Path) -> None:
    """Load what `save_checkpoint` stored under this or any other plan; each rank on its own.

    Without an optimizer only weights and step are loaded. Raises CheckpointError when the
    checkpoint is missing, or does not fit the program's parameters.
    """
    metadata = _read_metadata(folder)
    state: dict[str, Any] = {"training": None}
    for placed, value in executor.placed_values():
        _add_pieces(state, f"model.{placed.name}", placed, value, chunks(placed.slots, placed.box))
    for placed, parameter in _trained(executor):
        _add_optimizer_targets(state, executor, placed, parameter, metadata)
    _check_fits(state, metadata, folder)
    with _without_advice():
        load(state, checkpoint_id=str(folder), planner=LoadPlanner(), no_dist=True)
    for placed, parameter in _trained(executor):
        rest = deepcopy(state[f"optimizer.{placed.name}"])  # steps are counted in place
        _group(executor, parameter).update(rest["options"])
        _optimizer(executor).state[parameter].update(rest["scalars"])
    executor.step_number = state["training"]["step"]


def latest_checkpoint(folder: str | Path) -> Path | None:
    """The complete checkpoint of the highest step in a folder of `step-<n>` folders."""
    found = [path.parent for path in Path(folder).glob("step-*/.metadata")]
    return max(found, key=lambda path: int(path.name.removeprefix("step-")), default=None)


@contextmanager
def _without_advice() -> Iterator[None]:
    """Without what torch says of saving over a checkpoint, and of a process that is alone."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Detected an existing checkpoint")
        warnings.filterwarnings("ignore", "torch.distributed is disabled, unavailable")
        yield


def _add_state(state: dict[str, Any], executor: RankExecutor) -> None:
    covers = {placed.key: _cover(executor, placed) for placed, _ in executor.placed_values()}
    for placed, value in executor.placed_values():
        _add_pieces(state, f"model.{placed.name}", placed, value, covers[placed.key])
    for placed, parameter in _trained(executor):
        tensors, rest = _split_state(executor, parameter)
        for key, value in tensors.items():
            name = f"optimizer.{placed.name}.{key}"
            _add_pieces(state, name, placed, value, covers[placed.key])
        if parts_of(executor.program.manifest, placed.name)[0].rank == executor.program.rank:
            state[f"optimizer.{placed.name}"] = rest
    if executor.program.rank == 0:
        state["training"] = {"step": executor.step_number}


def _cover(executor: RankExecutor, placed: Placed) -> list[Chunk]:
    """The rectangles that this rank stores of its part.

    A part that several ranks hold is stored by the one in the manifest's layout; where parts
    overlap, the first in the layout stores the overlap.
    """
    earlier: list[Chunk] = []
    for part in parts_of(executor.program.manifest, placed.name):
        if part.rank == executor.program.rank and (part.slots, part.box) == (
            placed.slots,
            placed.box,
        ):
            return _without(chunks(placed.slots, placed.box), earlier)
        earlier += chunks(part.slots, part.box)
    return []


def _without(rectangles: Iterable[Chunk], holes: Iterable[Chunk]) -> list[Chunk]:
    left = list(rectangles)
    for hole in holes:
        left = [
            (offsets, tuple(a + b for a, b in zip(local, inner, strict=True)), sizes)
            for start, local, size in left
            for offsets, inner, sizes in subtract(start, size, hole)
        ]
    return left


def _add_pieces(
    state: dict[str, Any],
    name: str,
    placed: Placed,
    value: torch.Tensor,
    rectangles: Iterable[Chunk],
) -> None:
    for offsets, local, sizes in rectangles:
        shape = torch.Size(prod(dim) for dim in placed.slots)
        view = value.detach()
        for dim, (start, size) in enumerate(zip(local, sizes, strict=True)):
            view = view.narrow(dim, start, size)
        state.setdefault(name, Pieces(shape, value.dtype)).add(offsets, view)


def _add_optimizer_targets(
    state: dict[str, Any],
    executor: RankExecutor,
    placed: Placed,
    parameter: torch.nn.Parameter,
    metadata: Metadata,
) -> None:
    """Make the state tensors that the checkpoint has of a parameter, as targets to load into."""
    state[f"optimizer.{placed.name}"] = None
    prefix = f"optimizer.{placed.name}."
    for name, entry in metadata.state_dict_metadata.items():
        key = name.removeprefix(prefix)
        if key != name and "." not in key and isinstance(entry, TensorStorageMetadata):
            value = executor.new_state(placed, entry.properties.dtype)
            _optimizer(executor).state[parameter][key] = value
            _add_pieces(state, name, placed, value, chunks(placed.slots, placed.box))


def _trained(executor: RankExecutor) -> Iterator[Trained]:
    if executor.optimizer is not None:
        for placed in executor.program.parameters:
            if placed.trained:
                yield placed, executor.parameters[placed.key]


def _split_state(
    executor: RankExecutor, parameter: torch.nn.Parameter
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The state tensors of the parameter's shape, and everything else."""
    state = _optimizer(executor).state.get(parameter, {})
    tensors = shaped_states(_optimizer(executor), parameter)
    scalars = {key: value for key, value in state.items() if key not in tensors}
    options = {k: v for k, v in _group(executor, parameter).items() if k != "params"}
    return tensors, {"options": options, "scalars": scalars}


def _group(executor: RankExecutor, parameter: torch.nn.Parameter) -> dict[str, Any]:
    for group in _optimizer(executor).param_groups:
        if any(member is parameter for member in group["params"]):
            return group
    raise CheckpointError("the optimizer does not hold every trained parameter it was given")


def _optimizer(executor: RankExecutor) -> torch.optim.Optimizer:
    assert executor.optimizer is not None
    return executor.optimizer


def _read_metadata(folder: str | Path) -> Metadata:
    if not (Path(folder) / ".metadata").is_file():
        raise CheckpointError(f"{folder} holds no complete checkpoint (it has no .metadata file)")
    return FileSystemReader(str(folder)).read_metadata()


def _check_fits(state: Mapping[str, Any], metadata: Metadata, folder: str | Path) -> None:
    for name, value in state.items():
        entry = metadata.state_dict_metadata.get(name)
        if entry is None:
            raise CheckpointError(
                f"checkpoint {folder} has no {name}: it was saved by another model or optimizer"
            )
        size = getattr(entry, "size", None)
        if isinstance(value, Pieces) and size != value.shape:
            raise CheckpointError(
                f"checkpoint {folder}: {name} has shape {size and list(size)}, the program was "
                f"compiled for {list(value.shape)}"
            )

"""Weights out of the ranks: whole, as a state dict or into the user's model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from superscaler.parallelize.eager import EagerExecutor
from superscaler.runtime import RankExecutor
from superscaler.runtime.initialize import materialize_empty
from superscaler.runtime.layout import full_state_dict


def whole_state(executor: RankExecutor | EagerExecutor) -> dict[str, Tensor]:
    """Every parameter and buffer on rank 0's CPU, tied ones under all names; {} elsewhere."""
    if isinstance(executor, EagerExecutor):
        return {name: x.detach().cpu().clone() for name, x in _named(executor.model, True).items()}
    return full_state_dict(executor)


def fill_model(executor: RankExecutor | EagerExecutor, model: nn.Module) -> None:
    """Copy the trained weights into a model, on every rank."""
    if isinstance(executor, EagerExecutor) and model is executor.model:
        return
    state = whole_state(executor)
    materialize_empty(model)
    with torch.no_grad():
        for name, target in _named(model, False).items():
            target.copy_(_to_all(executor, name, state.get(name), target))


def _to_all(
    executor: RankExecutor | EagerExecutor, name: str, value: Tensor | None, like: Tensor
) -> Tensor:
    """Rank 0's value on every rank."""
    communicator = executor.communicator
    if communicator.world_size == 1:
        assert value is not None, name
        return value
    buffer = torch.empty(like.shape, dtype=like.dtype, device=executor.device)
    if value is not None:
        buffer.copy_(value)
    ranks = tuple(range(communicator.world_size))
    shared: Tensor = communicator.broadcast(buffer, ranks, 0).wait()
    return shared


def _named(model: nn.Module, every_name: bool) -> dict[str, Tensor]:
    """Parameters and buffers; with `every_name` tied ones under each of their names."""
    unique = not every_name
    return {
        **dict(model.named_parameters(remove_duplicate=unique)),
        **dict(model.named_buffers(remove_duplicate=unique)),
    }

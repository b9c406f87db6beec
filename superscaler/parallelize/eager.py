"""EagerExecutor: the untouched step on one device, with the numbers that the ranks would draw."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from superscaler.dtypes import dtype_name
from superscaler.runtime.initialize import materialize_weights
from superscaler.runtime.local import lone_rank
from superscaler.runtime.program import Key, Placed, RankProgram
from superscaler.runtime.reference import reference_random
from superscaler.runtime.shards import whole_part

Results = tuple[Tensor, dict[str, Tensor]]


class EagerExecutor:
    """Trains the user's own model; checkpoints take it for a rank that holds everything."""

    def __init__(
        self,
        step: Callable[[Any, Any], Any],
        model: nn.Module,
        optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer],
        clip_grad_norm: float | None,
        seed: int,
    ) -> None:
        self.model = materialize_weights(model, seed)
        self.program = _whole_program(model)
        self.communicator = lone_rank()
        self.step_number = 0
        self.grad_norm: Tensor | None = None
        self.optimizer = optimizer([p for p in model.parameters() if p.requires_grad])
        self._step = step
        self._clip = clip_grad_norm
        self._seed = seed
        self._draws = True  # until a step has shown that it draws no random numbers

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def new_state(self, placed: Placed, dtype: torch.dtype) -> Tensor:
        """A state tensor of a parameter, zero."""
        return torch.zeros(placed.shape, dtype=dtype, device=self.device)

    def finish_copies(self) -> None:
        """Nothing rests in host memory but on a CPU."""

    @property
    def parameters(self) -> dict[Key, nn.Parameter]:
        return {(name, ()): p for name, p in self.model.named_parameters()}

    def placed_values(self) -> list[tuple[Placed, Tensor]]:
        """Every parameter and buffer, whole."""
        buffers = dict(self.model.named_buffers())
        parameters = self.parameters
        return [
            *((placed, parameters[placed.key].detach()) for placed in self.program.parameters),
            *((placed, buffers[placed.name]) for placed in self.program.buffers),
        ]

    def step(self, batch: Any) -> Results:
        """Forward, backward and update, in plain PyTorch."""
        self.optimizer.zero_grad(set_to_none=True)
        loss, metrics = self._forward_backward(batch)
        if self._clip is not None:
            trained = [p for p in self.model.parameters() if p.requires_grad]
            self.grad_norm = nn.utils.clip_grad_norm_(trained, self._clip)
        self.optimizer.step()
        self.step_number += 1
        return loss.detach(), {name: metric.detach() for name, metric in metrics.items()}

    def _forward_backward(self, batch: Any) -> Results:
        if not self._draws:
            return self._differentiate(batch)
        with reference_random(self._seed, self.step_number):
            results = self._differentiate(batch)
            self._draws = torch.default_generator.initial_seed() > 0  # counts the draws
        return results

    def _differentiate(self, batch: Any) -> Results:
        result = self._step(self.model, batch)
        is_pair = isinstance(result, tuple)
        loss, metrics = result if is_pair else (result, {})
        types = {name: _dtype(metric) for name, metric in metrics.items()}
        manifest: Any = self.program.manifest
        manifest["types"] = {"loss": _dtype(loss), "metrics": types, "is_pair": is_pair}
        loss.backward()
        return loss, metrics


def _whole_program(model: nn.Module) -> RankProgram:
    """The program of one rank that holds everything and has no tasks."""
    parameters = [_whole(n, p, p.requires_grad) for n, p in model.named_parameters()]
    buffers = [_whole(n, b, False) for n, b in model.named_buffers()]
    layout = {p.name: [[0, p.slots, p.box]] for p in (*parameters, *buffers)}
    manifest = {
        "world_size": 1,
        "parameters": {n: _entry(p) for n, p in model.named_parameters()},
        "buffers": {n: _entry(b) for n, b in model.named_buffers()},
        "results": {},
        "state_layout": layout,
    }
    return RankProgram(
        rank=0,
        manifest=manifest,
        tasks={},
        schedule=(),
        constants={},
        parameters=tuple(parameters),
        buffers=tuple(buffers),
        inputs=(),
        results={},
        new_buffers=(),
    )


def _whole(name: str, tensor: Tensor, trained: bool) -> Placed:
    return Placed((name, ()), name, *whole_part(tensor.shape), trained)


def _entry(tensor: Tensor) -> Mapping[str, Any]:
    return {"shape": list(tensor.shape), "dtype": _dtype(tensor), "aliases": []}


def _dtype(tensor: Tensor) -> str:
    return dtype_name(tensor.dtype)

"""The reference: the untouched model trained eagerly, drawing the random numbers of the graph."""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from superscaler.runtime import kernels
from superscaler.runtime.attention_layout import plain_attention
from superscaler.runtime.randomness import RANDOM


@dataclass(frozen=True)
class Reference:
    """What the training steps leave: tensors by name, on the model's device.

    `loss`, `metrics`, `grad_norm` and `grads` (as the optimizer got them) are of the last step,
    `losses` of every step; `states` are the optimizer's tensors by parameter and state name.
    """

    loss: Tensor
    metrics: dict[str, Tensor]
    losses: tuple[Tensor, ...]
    grads: dict[str, Tensor]
    parameters: dict[str, Tensor]
    buffers: dict[str, Tensor]
    states: dict[str, dict[str, Tensor]]
    grad_norm: Tensor | None


def train_reference(
    step: Callable[[Any, Any], Any],
    model: nn.Module,
    optimizer_factory: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer],
    batch: Any,
    steps: int,
    seed: int = 0,
    clip_grad_norm: float | None = None,
    backward: Callable[[Tensor], Any] = torch.Tensor.backward,
) -> Reference:
    """Train `model` (in place) for `steps` steps with plain PyTorch.

    `batch` is one batch for every step, or a callable from the step's number to its batch;
    `backward` runs the backward of a loss.
    """
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    optimizer = optimizer_factory(list(trained.values()))
    losses = []
    metrics: dict[str, Tensor] = {}
    norm = None
    for number in range(steps):
        optimizer.zero_grad(set_to_none=True)
        inputs = batch(number) if callable(batch) else batch
        with reference_random(seed, number):
            result = step(model, inputs)
            loss, metrics = result if isinstance(result, tuple) else (result, {})
            backward(loss)
        if clip_grad_norm is not None:
            norm = nn.utils.clip_grad_norm_(list(trained.values()), clip_grad_norm)
        optimizer.step()
        losses.append(loss.detach())
    return Reference(
        loss=losses[-1],
        metrics={name: metric.detach() for name, metric in metrics.items()},
        losses=tuple(losses),
        grads={name: p.grad.detach() for name, p in trained.items() if p.grad is not None},
        parameters={name: p.detach() for name, p in model.named_parameters()},
        buffers={name: b.detach() for name, b in model.named_buffers()},
        states={name: _tensor_states(optimizer, p) for name, p in trained.items()},
        grad_norm=norm,
    )


def _tensor_states(optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> dict[str, Tensor]:
    states = optimizer.state.get(parameter, {})
    return {
        name: value
        for name, value in states.items()
        if isinstance(value, Tensor) and value.shape == parameter.shape and name != "step"
    }


@contextlib.contextmanager
def reference_random(seed: int, step: int) -> Iterator[None]:
    """Inside, the n-th random call draws what the graph's random operator n draws in this step.

    ATen's random operators are overridden in torch's dispatcher, for the whole process. The number
    of the next call lives in the state of torch's CPU generator, so that activation checkpointing,
    which restores that state, repeats the numbers too; the generator is put back afterwards.
    """
    kernels.set_random(seed, step)
    state = torch.get_rng_state()
    library = torch.library.Library("aten", "IMPL")
    try:
        torch.default_generator.manual_seed(0)
        _override(library)
        with plain_attention():  # fused kernels draw numbers of their own
            yield
    finally:
        library._destroy()
        torch.set_rng_state(state)


def _next_id() -> int:
    number = torch.default_generator.initial_seed()
    torch.default_generator.manual_seed(number + 1)
    return number


def _override(library: torch.library.Library) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of the first override of a process
        for operator, function in RANDOM.items():
            for key in _keys(operator):
                numbered = partial(function, _next_id)
                library.impl(operator, numbered, key, allow_override=True)


def _keys(operator: torch._ops.OpOverload) -> tuple[str, ...]:
    """The dispatch keys at which an operator is overridden: where torch implements it."""
    name = operator.name()
    for key in ("CompositeImplicitAutograd", "CompositeExplicitAutograd"):
        if torch._C._dispatch_has_kernel_for_dispatch_key(name, key):
            return (key,)
    return ("CPU", "CUDA") if torch.cuda.is_available() else ("CPU",)

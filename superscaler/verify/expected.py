"""Expected: what plain PyTorch makes of the untouched model, and what it started from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from superscaler.errors import VerifyError
from superscaler.model_copy import copy_model
from superscaler.precision import Float64Step, mode_of
from superscaler.runtime.initialize import (
    load_state_file,
    materialize_empty,
    materialize_weights,
)
from superscaler.runtime.reference import train_reference
from superscaler.runtime.train import batches
from superscaler.user_code import UserCode
from superscaler.verify.accuracy import Accuracy, ComputedDtypes, accuracy_of, largest
from superscaler.verify.rounding import drop_rounding
from superscaler.workload import Workload

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Expected:
    """K steps of the untouched model: per step, and what is left after the last.

    `initial` are the weights and buffers it began with, `batches` what it was trained on;
    `thresholds[t]` is the magnitude below which a gradient element of step t is rounding only.
    `grads` are the last step's, as the optimizer was handed them.
    """

    accuracy: Accuracy
    seed: int
    initial: Tensors
    batches: tuple[Any, ...]
    losses: tuple[Tensor, ...]
    metrics: tuple[Tensors, ...]
    grad_norm: Tensor | None
    grads: Tensors
    parameters: Tensors
    buffers: Tensors
    states: Tensors
    thresholds: tuple[float, ...]
    largest_gradient: float

    @property
    def num_steps(self) -> int:
        return len(self.batches)


def expect(
    workload: Workload, steps: int = 2, seed: int | None = None, tolerance: float | None = None
) -> Expected:
    """Train a copy of the workload's model with plain PyTorch, one batch of its data a step.

    What counts as equal is by the dtypes of parameters, and in a model's own dtype by those that
    the step computes in, unless a `tolerance` is given.
    """
    seed = workload.seed if seed is None else seed
    data = tuple(islice(batches(workload), steps))
    of_model = accuracy_of(workload.model)
    given = of_model if isinstance(workload.step, Float64Step) else None
    if tolerance is not None:
        given = replace(of_model, tolerance=tolerance)
    return trained(workload, initialised(workload, seed), data, seed, given)


def trained(
    workload: Workload,
    model: nn.Module,
    data: tuple[Any, ...],
    seed: int,
    accuracy: Accuracy | None = None,
) -> Expected:
    """`expect` of a model with weights, which is trained in place, on these batches."""
    initial = _snapshot(model)
    observer = _Observer(workload, model, accuracy)
    blame = UserCode("training the untouched model raised", kind=VerifyError, unless_ours=True)
    is_cast = isinstance(workload.step, Float64Step)

    def backward(loss: Tensor) -> None:
        with mode_of(workload.step):
            loss.backward()  # type: ignore[no-untyped-call]

    with _precision_explained(is_cast), blame:
        reference = train_reference(
            observer.step,
            model,
            observer.optimizer,
            lambda number: data[number],
            len(data),
            seed,
            workload.clip_grad_norm,
            backward,
        )
    return Expected(
        accuracy=observer.accuracy,
        seed=seed,
        initial=initial,
        batches=data,
        losses=reference.losses,
        metrics=tuple(observer.metrics),
        grad_norm=reference.grad_norm,
        grads=observer.gradients,
        parameters=reference.parameters,
        buffers=reference.buffers,
        states={
            f"{name}.{key}": value
            for name, states in reference.states.items()
            for key, value in states.items()
        },
        thresholds=tuple(observer.thresholds),
        largest_gradient=observer.thresholds[-1] / observer.accuracy.rounding,
    )


@contextmanager
def _precision_explained(is_cast: bool) -> Iterator[None]:
    """Adds the way out where a float64 model meets tensors that were not cast with it."""
    try:
        yield
    except VerifyError as error:
        if not is_cast or not ("Double" in str(error) and "Float" in str(error)):
            raise
        raise VerifyError(
            f"{error}; the model and its batch are verified in float64, tensors and modules from "
            "around the step stay as they are: make them buffers or parts of the model, or verify "
            "in the model's own dtype (--dtype model)"
        ) from error


def initialised(workload: Workload, seed: int) -> nn.Module:
    """A copy of the workload's model that has weights."""
    model = copy_model(workload.model)
    if not any(x.is_meta for x in (*model.parameters(), *model.buffers())):
        return model
    if callable(workload.init):
        materialize_empty(model)
        torch.manual_seed(seed)
        with torch.no_grad(), UserCode("the workload's init raised"):
            workload.init(model)
        return model
    if workload.init is not None and Path(workload.init).is_file():
        model = materialize_empty(model)
        model.load_state_dict(load_state_file(workload.init))
        return model
    return materialize_weights(model, seed)


def _snapshot(model: nn.Module) -> Tensors:
    named = (*model.named_parameters(), *model.named_buffers())
    return {name: x.detach().clone() for name, x in named}


class _Observer:
    """Listens to the training: every step's metrics, and gradients on the way to the optimizer."""

    def __init__(self, workload: Workload, model: nn.Module, accuracy: Accuracy | None) -> None:
        self.metrics: list[Tensors] = []
        self.gradients: Tensors = {}
        self.thresholds: list[float] = []
        self._workload = workload
        self._names = {id(p): name for name, p in model.named_parameters()}
        self._accuracy = accuracy

    @property
    def accuracy(self) -> Accuracy:
        assert self._accuracy is not None, "no step yet"
        return self._accuracy

    def step(self, model: Any, batch: Any) -> Any:
        with nullcontext() if self._accuracy else ComputedDtypes() as computed:
            result = self._workload.step(model, batch)
        if computed:
            self._accuracy = accuracy_of(self._workload.model, computed.found)
        metrics = result[1] if isinstance(result, tuple) else {}
        self.metrics.append({name: metric.detach().clone() for name, metric in metrics.items()})
        return result

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        made = self._workload.optimizer(parameters)
        made.register_step_pre_hook(self._see_gradients)
        drop_rounding(made, lambda: self.thresholds[-1])
        return made

    def _see_gradients(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        self.gradients = {
            self._names[id(p)]: p.grad.detach()
            for group in optimizer.param_groups
            for p in group["params"]
            if p.grad is not None
        }
        top = max((largest(grad) for grad in self.gradients.values()), default=0.0)
        self.thresholds.append(top * self.accuracy.rounding)

"""The stand-in for the user's optimizer: the same class on tensors without memory."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch

Gradients = Mapping[Any, torch.Tensor]


def optimizer_step(
    text: str, num_states: int, is_cuda: bool, apart: Callable[[Callable[[], Any]], Any]
) -> Callable[[Gradients], None]:
    """What one step does to parameters of the gradients' forms.

    `text` is the class and its defaults as the graph has them; a class that is not torch's is
    taken for one kernel a parameter and state. `apart` runs what does not belong to the step:
    making parameters and states.
    """

    def step(gradients: Gradients) -> None:
        grads = list(gradients.values())
        parameters = apart(lambda: [torch.nn.Parameter(torch.empty_like(g)) for g in grads])
        make = _factory(text, is_cuda)
        if make is None:
            _plain_step(parameters, grads, num_states, apart)
            return
        optimizer = apart(lambda: _warm(make(parameters), parameters))
        for parameter, gradient in zip(parameters, grads, strict=True):
            parameter.grad = gradient
        optimizer.step()
        for parameter in parameters:
            parameter.grad = None

    return step


def scalar_bytes(text: str) -> int:
    """The bytes of a parameter's states that are single numbers (on the CPU, always): `step`."""
    make = _factory(text, False)
    if make is None:
        return 0
    parameter = torch.nn.Parameter(torch.zeros(2))
    state = _warm(make([parameter]), [parameter]).state[parameter]
    scalars = [v for v in state.values() if isinstance(v, torch.Tensor) and v.numel() == 1]
    return sum(v.nbytes for v in scalars)


def _factory(
    text: str, is_cuda: bool
) -> Callable[[list[torch.nn.Parameter]], torch.optim.Optimizer] | None:
    """Makes the optimizer that a text such as "AdamW(lr=0.001)" describes; None if it cannot."""
    try:
        call = ast.parse(text, mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            return None
        given = {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
    except (SyntaxError, ValueError):  # a default that is no literal
        return None
    kind: Any = getattr(torch.optim, call.func.id, None)
    if kind is None or given.get("fused"):
        return None
    known = inspect.signature(kind).parameters
    chosen = {k: v for k, v in given.items() if k in known}
    if "foreach" in known and chosen.get("foreach") is None:
        chosen["foreach"] = is_cuda  # torch's own default on either device
    return lambda parameters: kind(parameters, **chosen)


def _warm(
    optimizer: torch.optim.Optimizer, parameters: list[torch.nn.Parameter]
) -> torch.optim.Optimizer:
    """One step, in which the states are made."""
    for parameter in parameters:
        parameter.grad = torch.empty_like(parameter)
    optimizer.step()
    for parameter in parameters:
        parameter.grad = None
    return optimizer


def _plain_step(
    parameters: list[torch.nn.Parameter],
    grads: list[torch.Tensor],
    num_states: int,
    apart: Callable[[Callable[[], Any]], Any],
) -> None:
    """In place, one kernel for a parameter and for each of its states."""
    for parameter, gradient in zip(parameters, grads, strict=True):
        states = apart(lambda p=parameter: [torch.empty_like(p) for _ in range(num_states)])  # type: ignore[misc]
        for state in (*states, parameter):
            state.add_(gradient)

"""The stand-in for the user's optimizer: the same class on tensors without memory."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch

from superscaler.graph.tensor import HOST
from superscaler.materialize.program import Program
from superscaler.runtime.copies import Copies
from superscaler.runtime.update import Member, update

Homes = Mapping[str, tuple[bool, bool]]  # value name -> parameter, states in host memory
Gradients = Mapping[Any, torch.Tensor]


def optimizer_step(
    text: str,
    num_states: int,
    is_cuda: bool,
    apart: Callable[[Callable[[], Any]], Any],
    copies: Copies,
    homes: Homes,
) -> Callable[[Gradients], None]:
    """What one step does to parameters of the gradients' forms.

    `text` is the class and its defaults as the graph has them; a class that is not torch's is
    taken for one kernel a parameter and state. `apart` runs what does not belong to the step:
    making parameters and states. `homes` says which parameters, by value name, rest in host memory,
    and which states.
    """

    def step(gradients: Gradients) -> None:
        grads = list(gradients.values())
        parameters = apart(lambda: [torch.nn.Parameter(torch.empty_like(g)) for g in grads])
        make = _factory(text, is_cuda)
        if make is None:
            optimizer = apart(lambda: _warm(_Plain(parameters, num_states), parameters))
        else:
            optimizer = apart(lambda: _warm(make(parameters), parameters))
        members = [
            Member(parameter, gradient, *homes.get(key[0], (False, False)))
            for parameter, (key, gradient) in zip(parameters, gradients.items(), strict=True)
        ]
        update(optimizer, members, copies)

    return step


def homes_of(program: Program) -> Homes:
    """Where trained parameters and their states rest."""
    tensors = program.partition.graph.tensors
    states = {
        u.param: any(tensors[t].memory == HOST for _, t, _ in u.states)
        for u in program.partition.graph.updates
    }
    return {
        own.name: (tensors[own.tensor].memory == HOST, states[own.tensor])
        for own in program.owned
        if own.tensor in states
    }


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


class _Plain(torch.optim.Optimizer):
    """In place, one kernel for a parameter and for each of its states."""

    def __init__(self, parameters: list[torch.nn.Parameter], num_states: int) -> None:
        super().__init__(parameters, {})
        self._num_states = num_states

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for parameter in self.param_groups[0]["params"]:
            if parameter.grad is None:
                continue
            state = self.state[parameter]
            for number in range(self._num_states):
                if number not in state:
                    state[number] = torch.empty_like(parameter)
                state[number].add_(parameter.grad)
            parameter.add_(parameter.grad)

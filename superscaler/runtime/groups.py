"""Groups: a rank's optimizer puts its parts of parameters into the groups of the whole ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch

Factory = Callable[[list[torch.nn.Parameter]], torch.optim.Optimizer]


def optimizer_of_parts(
    factory: Factory,
    parts: Sequence[tuple[str, torch.nn.Parameter]],
    wholes: Mapping[str, torch.nn.Parameter],
) -> torch.optim.Optimizer:
    """The user's optimizer on a rank's parts, given with the names of the parameters.

    Which group a parameter is in may depend on its size or on its place among all, which its part
    does not show, and a rank may have no parameter of a group: so the groups are those that the
    factory makes of `wholes`, all trained parameters in the model's order. The optimizer is made
    last, so that a factory that keeps what it makes keeps this one.
    """
    as_whole = [(name, p.shape) for name, p in wholes.items()]
    if [(name, p.shape) for name, p in parts] == as_whole:
        return factory([p for _, p in parts])
    names = {id(p): name for name, p in wholes.items()}
    groups = factory(list(wholes.values())).param_groups
    optimizer = factory([p for _, p in parts])
    here: dict[str, list[torch.nn.Parameter]] = {}
    for name, part in parts:
        here.setdefault(name, []).append(part)
    optimizer.param_groups[:] = [
        {**group, "params": [p for w in group["params"] for p in here.get(names[id(w)], ())]}
        for group in groups
    ]
    return optimizer


def stand_in(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> torch.nn.Parameter:
    """A parameter of this shape that takes the memory of one element."""
    return torch.nn.Parameter(torch.zeros((), dtype=dtype, device=device).expand(tuple(shape)))

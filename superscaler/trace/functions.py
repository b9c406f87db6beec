"""Custom autograd functions: kept whole by the export, so that their own backward runs.

Export records what a function's forward computes and forgets its backward. So during the export a
call of `Function.apply` is one operator, `superscaler.function`; when the exported graph is
differentiated, the function itself is called in its place. Patches torch; tried with 2.11,
2.13 and 2.14.
"""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten
from torch.utils.checkpoint import CheckpointFunction

from superscaler.errors import TraceError

_APPLY = vars(torch.autograd.Function)["apply"]


@dataclass
class _Call:
    """One call: its arguments without their tensors, and the shape of what it returned."""

    function: type[torch.autograd.Function]
    leaves: list[Any]
    spec: TreeSpec
    returned: tuple[list[Any], TreeSpec] | None = None

    def run(self, tensors: list[Tensor]) -> list[Any]:
        given = iter(tensors)
        leaves = [next(given) if leaf is Tensor else leaf for leaf in self.leaves]
        args, kwargs = tree_unflatten(leaves, self.spec)
        returned, spec = tree_flatten(_apply(self.function)(*args, **kwargs))
        self.returned = (_without_tensors(returned), spec)
        return [leaf for leaf in returned if isinstance(leaf, Tensor)]


@dataclass
class Functions:
    """The calls of custom functions in one step, in order."""

    calls: list[_Call] = field(default_factory=list)

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Inside, `Function.apply` records one operator."""
        global _calls
        outer, _calls = _calls, self.calls
        try:
            with patch.object(torch.autograd.Function, "apply", classmethod(_record)):
                yield
        finally:
            _calls = outer

    def call(self, tensors: list[Tensor], number: int) -> list[Any]:
        """What `superscaler.function` stands for: the function, with its own backward."""
        return self.calls[number].run(tensors)


_calls: list[_Call] = []


def _apply(function: type[torch.autograd.Function]) -> Callable[..., Any]:
    """Its `apply` as torch has it: in Python until 2.13, in C since 2.14."""
    bound: Callable[..., Any] = _APPLY.__get__(None, function)
    return bound


def _record(cls: type[torch.autograd.Function], *args: Any, **kwargs: Any) -> Any:
    if cls is CheckpointFunction:  # what is recomputed is the plan's to say
        run, _, *inputs = args
        return run(*inputs)
    if cls.__module__.partition(".")[0] == "torch":  # its higher-order operators: cond, scan
        return _apply(cls)(*args, **kwargs)
    leaves, spec = tree_flatten((args, kwargs))
    call = _Call(cls, _without_tensors(leaves), spec)
    _calls.append(call)
    given = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    made = iter(torch.ops.superscaler.function(given, len(_calls) - 1))
    assert call.returned is not None
    kinds, returned = call.returned
    return tree_unflatten([next(made) if kind is Tensor else kind for kind in kinds], returned)


def _without_tensors(leaves: list[Any]) -> list[Any]:
    return [Tensor if isinstance(leaf, Tensor) else leaf for leaf in leaves]


def _shapes(tensors: list[Tensor], number: int) -> list[Tensor]:
    """The function's outputs; as fakes, for this runs during the export only."""
    name = _calls[number].function.__name__
    versions = [tensor._version for tensor in tensors]
    with torch.no_grad(), _NoRandomness(name):
        made = _calls[number].run(tensors)
    if versions != [tensor._version for tensor in tensors]:
        raise TraceError(
            f"autograd function {name} changes an input in place; let it return a new tensor"
        )
    return [torch.empty_like(tensor) for tensor in made]


class _NoRandomness(TorchDispatchMode):
    """Refuses random operators: inside a function they have no number of their own."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if torch.Tag.nondeterministic_seeded in func.tags:
            raise TraceError(
                f"autograd function {self.name} draws random numbers ({func}); draw them before "
                "the call and pass them to it"
            )
        return func(*args, **(kwargs or {}))


_LIBRARY = torch.library.Library("superscaler", "FRAGMENT")
_LIBRARY.define("function(Tensor[] tensors, int number) -> Tensor[]")
torch.library.register_fake("superscaler::function", _shapes, lib=_LIBRARY)

"""Initial weights: a model's own values, or its own initialisation run module by module."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import torch

from superscaler.runtime.failures import WeightsError

Named = tuple[str, torch.Tensor]
# Initialisers draw from torch's global generator, which ranks in threads share.
_GENERATOR_LOCK = threading.Lock()


def initial_weights(
    model: torch.nn.Module, seed: int = 0, wanted: Collection[str] | None = None
) -> Iterator[Named]:
    """The names and initial values of a model's parameters and buffers, whole, on the CPU.

    What the model holds already is given as it is. What is on the meta device is initialised by
    the model's own code, one module at a time (so that one module is in memory at a time):
    `reset_parameters()` of the module, then `_init_weights(module)` of the nearest module around
    it that has one, as in `transformers`. The draws depend on `seed` and the module's path only,
    so any number of ranks, and a single process, get the same weights. With `wanted`, modules that
    hold none of these names are passed over.

    Raises WeightsError when a module on the meta device has no code that initialises it.
    """
    initialisers = _initialisers(model)
    names = _names(model)
    for path, module in model.named_modules():
        own = {
            name: x
            for name, x in _own_tensors(module)
            if names[id(x)][0] == _join(path, name)
            and (wanted is None or any(n in wanted for n in names[id(x)]))
        }
        if any(x.is_meta for x in own.values()):
            values = _initialise_module(path, module, seed, initialisers[path])
            yield from ((_join(path, name), values[name]) for name in own)
        else:
            yield from ((_join(path, name), x.detach()) for name, x in own.items())


def materialize_weights(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Give a model on the meta device its initial weights in place, as `initial_weights` does."""
    names = _names(model)
    values = dict(initial_weights(model, seed))
    return _replace_meta(model, lambda x: values[names[id(x)][0]])


def materialize_empty(model: torch.nn.Module) -> torch.nn.Module:
    """Give a model on the meta device memory in place, with undefined values; ties stay tied."""
    return _replace_meta(model, lambda x: torch.empty_like(x, device="cpu"))


def load_state_file(path: str | Path) -> dict[str, torch.Tensor]:
    """The tensors of a state-dict file: `torch.save` (mapped, not read) or `.safetensors`.

    Raises WeightsError when the file is missing or holds no state dict.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"weights: there is no file {path}")
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file  # comes with transformers; not required

        return dict(load_file(path))
    state = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    state = state.get("model", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(x, torch.Tensor) for x in state.values()):
        raise WeightsError(f"weights: {path} holds no dict of tensors by parameter name")
    return state


def module_seed(seed: int, path: str) -> int:
    """The seed of the module at a path.

    >>> module_seed(0, "layers.0") == module_seed(0, "layers.1")
    False
    """
    return int.from_bytes(hashlib.sha256(f"{seed}:{path}".encode()).digest()[:7], "big")


def _initialise_module(
    path: str, module: torch.nn.Module, seed: int, initialiser: Callable[[Any], Any] | None
) -> dict[str, torch.Tensor]:
    """The initial values of a module's own tensors; the module stays as it is."""
    with _GENERATOR_LOCK, _Materialized(module), torch.no_grad():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(module_seed(seed, path))
            for name in ("reset_parameters", "_reset_parameters"):
                if callable(reset := getattr(module, name, None)):
                    reset()
            if initialiser is not None:
                initialiser(module)
        values = {name: x.detach() for name, x in _own_tensors(module)}
    _check_initialised(path, module, values)
    return values


class _Materialized:
    """A context in which a module's own tensors are on the CPU; afterwards they are as before."""

    def __init__(self, module: torch.nn.Module) -> None:
        self._module = module
        self._tensors = (dict(module._parameters), dict(module._buffers))

    def __enter__(self) -> None:
        for tensors in (self._module._parameters, self._module._buffers):
            for name, x in tensors.items():
                if x is not None:
                    tensors[name] = _like(x, _marked(x))  # type: ignore[assignment]

    def __exit__(self, *exception: object) -> None:
        parameters, buffers = self._tensors
        self._module._parameters.update(parameters)
        self._module._buffers.update(buffers)


def _like(x: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """`value` as what x is: a parameter or a plain tensor."""
    if isinstance(x, torch.nn.Parameter):
        return torch.nn.Parameter(value, requires_grad=x.requires_grad)
    return value


def _marked(x: torch.Tensor) -> torch.Tensor:
    """x, or if it has no values, what no initialiser writes: what is left of it is missing."""
    if not x.is_meta:
        return x.detach().clone()
    empty = torch.empty_like(x, device="cpu")
    if x.dtype == torch.bool:
        return empty.zero_()
    is_integer = not (x.is_floating_point() or x.is_complex())
    return empty.fill_(torch.iinfo(x.dtype).min if is_integer else float("nan"))


def _is_marked(x: torch.Tensor) -> bool:
    if not x.numel() or x.dtype == torch.bool:
        return False
    if x.is_floating_point() or x.is_complex():
        return bool(x.isnan().any())
    return bool((x == torch.iinfo(x.dtype).min).all())


def _check_initialised(path: str, module: torch.nn.Module, values: dict[str, torch.Tensor]) -> None:
    for name, x in values.items():
        if _is_marked(x):
            raise WeightsError(
                f"{_join(path, name)} is on the meta device and nothing initialises it: give "
                f"{type(module).__name__} a method reset_parameters() that fills it, or build the "
                "model on the CPU, or load its weights"
            )


def _replace_meta(
    model: torch.nn.Module, value_of: Callable[[torch.Tensor], torch.Tensor]
) -> torch.nn.Module:
    made: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}  # the first keeps the id taken
    for module in list(model.modules()):
        for tensors in (module._parameters, module._buffers):
            for name, x in list(tensors.items()):
                if x is not None and x.is_meta:
                    made.setdefault(id(x), (x, _like(x, value_of(x))))
                    tensors[name] = made[id(x)][1]  # type: ignore[assignment]
    return model


def _initialisers(model: torch.nn.Module) -> dict[str, Callable[[Any], Any] | None]:
    """Per module path: `_init_weights` of the nearest module at or above it."""
    found: dict[str, Callable[[Any], Any] | None] = {}
    for path, module in model.named_modules():
        inherited = found.get(path.rpartition(".")[0]) if path else None
        own = getattr(module, "_init_weights", None)
        found[path] = own if callable(own) else inherited
    return found


def _own_tensors(module: torch.nn.Module) -> list[Named]:
    parameters = module.named_parameters(recurse=False, remove_duplicate=False)
    return [*parameters, *module.named_buffers(recurse=False, remove_duplicate=False)]


def _names(model: torch.nn.Module) -> dict[int, list[str]]:
    """By tensor (its id): all its names, in the order of the modules; tied tensors have several."""
    names: dict[int, list[str]] = {}
    for path, module in model.named_modules():
        for name, x in _own_tensors(module):
            names.setdefault(id(x), []).append(_join(path, name))
    return names


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name

"""Workloads: what is trained, and how a workload file of the user's is loaded."""

from __future__ import annotations

import hashlib
import inspect
import linecache
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import torch

from superscaler.errors import WorkloadError
from superscaler.model_copy import copy_model
from superscaler.precision import cast_model, cast_tensors, in_float64
from superscaler.settings import read_settings
from superscaler.user_code import UserCode

OPTIMIZER = (
    "a callable from parameters to an optimizer, such as lambda p: torch.optim.AdamW(p, lr=1e-3),"
)


@dataclass(frozen=True)
class Workload:
    """One training step, on one batch.

    Parameters
    ----------
    step : `step(model, batch)` returns the loss (a scalar tensor), or the loss and a dict of
        metrics. It neither calls `backward` nor updates anything.
    model : the module; it may be on the meta device.
    optimizer : a callable from parameters to a `torch.optim.Optimizer`.
    batch : a global batch, a pytree of tensors. Its shapes and types are what is traced.
    clip_grad_norm : the largest global norm of the gradients; None leaves them as they are.
    data : a callable without arguments giving an iterable of further global batches, of the shapes
        of `batch`, to train on. Every process calls it, so it must give the same batches in each.
        None: training repeats `batch`.
    init : the weights of a model on the meta device, as a callable that initialises the module it
        is given, in place, or as the path of a checkpoint. None: the initialisation of the model's
        own code (`reset_parameters`, or `_init_weights` of `transformers`).
    seed : seeds the initialisation and every random operator of the step.

    Raises WorkloadError for a field of another kind.
    """

    step: Callable[[Any, Any], Any]
    model: torch.nn.Module
    optimizer: Callable[[Iterable[torch.nn.Parameter]], torch.optim.Optimizer]
    batch: Any
    clip_grad_norm: float | None = None
    data: Callable[[], Iterable[Any]] | None = None
    init: Callable[[torch.nn.Module], object] | str | Path | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        clip, init = self.clip_grad_norm, self.init
        is_number = isinstance(clip, (int, float)) and not isinstance(clip, bool)
        fits = {
            "step": (callable(self.step), "a callable step(model, batch)"),
            "model": (isinstance(self.model, torch.nn.Module), "a torch.nn.Module"),
            "optimizer": (callable(self.optimizer), OPTIMIZER),
            "clip_grad_norm": (
                clip is None or (is_number and clip > 0),
                "a number above 0, or None",
            ),
            "data": (self.data is None or callable(self.data), "a callable that gives batches"),
            "init": (
                init is None or isinstance(init, (str, Path)) or callable(init),
                "a callable of the module, or a checkpoint's path",
            ),
            "seed": (isinstance(self.seed, int), "a whole number"),
        }
        for name, (is_good, expected) in fits.items():
            if not is_good:
                found = repr(getattr(self, name))
                raise WorkloadError(f"Workload: expected {expected} as {name}, found {found[:80]}")


def cast(workload: Workload, dtype: torch.dtype) -> Workload:
    """The workload with parameters, buffers and batches of floating point in `dtype`.

    Complex ones are of double precision with float64, else of single.

    The model is copied, so the given workload stays as it was. In float64 the step's own casts to
    float32 give float64 too, so that the result is exact to float64's digits.
    """

    def data() -> Iterable[Any]:
        assert workload.data is not None
        found = workload.data()
        if not is_iterable(found):
            return found  # its reader says what is wrong
        return (cast_tensors(batch, dtype) for batch in found)

    return replace(
        workload,
        step=in_float64(workload.step) if dtype == torch.float64 else workload.step,
        model=cast_model(copy_model(workload.model), dtype),
        batch=cast_tensors(workload.batch, dtype),
        data=None if workload.data is None else data,
    )


def is_iterable(value: object) -> bool:
    """Whether a `for` can go over it."""
    return hasattr(value, "__iter__") or hasattr(value, "__getitem__")


def load_workload(name: str, settings: Mapping[str, Any] | None = None) -> Workload:
    """Call the callable named `FILE.py:callable` with the settings as its keyword arguments.

    A setting given as a string becomes the type of the parameter's annotation, or of its default.
    The file's folder is put on `sys.path`, so that it can import the files beside it.

    Raises WorkloadError, saying what to write instead, if there is no such file or callable, a
    setting does not fit the callable, or the file or the callable raises or gives another thing.
    """
    path, callable_name = _parse_name(name)
    module = _import_file(path)
    function = _find_callable(module, path, callable_name)
    with UserCode(f"workload {name!r}: reading its annotations raised", path):
        signature = inspect.signature(function, eval_str=True)
    keywords = read_settings(f"workload {name!r}", signature, settings or {})
    with UserCode(f"workload {name!r}: the callable raised", path):
        workload = function(**keywords)
    if not isinstance(workload, Workload):
        raise WorkloadError(
            f"workload {name!r}: the callable returned {type(workload).__name__}; "
            "return superscaler.Workload(step=..., model=..., optimizer=..., batch=...)"
        )
    return workload


def _parse_name(name: str) -> tuple[Path, str]:
    file, colon, callable_name = name.rpartition(":")
    if not colon or not callable_name.isidentifier():
        raise WorkloadError(
            f"workload {name!r}: no callable is named; "
            "write FILE.py:callable, such as examples/gpt.py:workload"
        )
    path = Path(file)
    if path.is_dir():
        raise WorkloadError(f"workload {name!r}: {file} is a folder; name a Python file in it")
    if not path.is_file():
        raise WorkloadError(
            f"workload {name!r}: there is no file {file} in {Path.cwd()}; check the path"
        )
    return path.resolve(), callable_name


def _import_file(path: Path) -> types.ModuleType:
    digest = hashlib.sha256(str(path).encode()).hexdigest()[:8]
    name = f"superscaler_workload_{path.stem}_{digest}"
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    spec = spec_from_file_location(name, path)
    if spec is None:
        raise WorkloadError(f"workload file {path}: not a Python file; its name must end in .py")
    module = module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickles of the file look it up
    linecache.checkcache(str(path))
    with UserCode(f"workload file {path}: importing it raised", path):
        # Compiled from the source: bytecode caches tell versions apart by whole seconds only.
        exec(compile(path.read_bytes(), str(path), "exec"), vars(module))
    return module


def _find_callable(module: types.ModuleType, path: Path, name: str) -> Callable[..., Any]:
    found = getattr(module, name, None)
    if callable(found):
        return typing.cast("Callable[..., Any]", found)
    own = sorted(
        key
        for key, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and key[0] != "_"
    )
    raise WorkloadError(
        f"workload file {path}: it has no callable {name!r}; "
        + (f"its functions: {', '.join(own)}" if own else "it defines no function")
    )

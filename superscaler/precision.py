"""A training step computed in float64 throughout, also where the model asks for float32."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map


class Float64Mode(TorchFunctionMode):
    """Reads every float32 that a model asks for as float64.

    Models that compute their norms or softmax in float32 (LLaMA, T5) would otherwise round a
    float64 step to seven digits, differently under every plan.
    """

    def __enter__(self) -> Float64Mode:
        self._outer_dtype = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)  # type: ignore[no-untyped-call]
        torch.set_default_dtype(self._outer_dtype)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        wide = {key: _widen(value) for key, value in (kwargs or {}).items()}
        return _IN_FLOAT64.get(func, func)(*map(_widen, args), **wide)


_WIDER = {torch.float32: torch.float64, torch.complex64: torch.complex128}


def _widen(argument: Any) -> Any:
    return _WIDER.get(argument, argument) if isinstance(argument, torch.dtype) else argument


def _to_float64(x: torch.Tensor, **kwargs: Any) -> torch.Tensor:
    return x.to(torch.float64, **kwargs)


def _to_complex128(x: torch.Tensor, **kwargs: Any) -> torch.Tensor:
    return x.to(torch.complex128, **kwargs)


def _grouped_mm(
    x: torch.Tensor, weights: torch.Tensor, offs: torch.Tensor | None = None, **options: Any
) -> torch.Tensor:
    """`grouped_mm` of rows sorted by group; torch has no kernel of it for float64."""
    is_plain = x.dim() == 2 and weights.dim() == 3 and not any(options.values())
    if x.dtype != torch.float64 or offs is None or not is_plain:
        return torch._grouped_mm(x, weights, offs=offs, **options)
    rows = torch.arange(len(x), device=x.device)
    group = (rows[:, None] >= offs).sum(1).clamp(max=len(weights) - 1)
    return torch.bmm(x[:, None], weights[group])[:, 0]


def _backward(
    x: torch.Tensor,
    gradient: torch.Tensor | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Sequence[torch.Tensor] | None = None,
) -> None:
    """`Tensor.backward` with the mode on: checkpoints run parts of the step again in it.

    A mode is off in the handler of its own calls, and torch's `backward` functions are such calls.
    """
    with Float64Mode():
        torch.autograd._engine_run_backward(  # type: ignore[attr-defined]
            (x,),
            (torch.ones_like(x) if gradient is None else gradient,),
            create_graph if retain_graph is None else retain_graph,
            create_graph,
            tuple(inputs or ()),
            allow_unreachable=True,
            accumulate_grad=True,
        )


_IN_FLOAT64: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.Tensor.backward: _backward,
    torch.Tensor.float: _to_float64,
    torch.Tensor.cfloat: _to_complex128,  # type: ignore[attr-defined]
    torch._grouped_mm: _grouped_mm,
}


def in_float64(step: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """The same step, with nothing of it computed in float32."""

    return Float64Step(step)


@dataclass(frozen=True)
class Float64Step:
    """A step that runs in float64; `mode_of` gives the same for its backward."""

    step: Callable[[Any, Any], Any]

    def __call__(self, model: Any, batch: Any) -> Any:
        with Float64Mode():
            return self.step(model, batch)


def mode_of(step: Callable[[Any, Any], Any]) -> AbstractContextManager[Any]:
    """The mode for the step's backward, in which checkpointing runs parts of the step again."""
    return Float64Mode() if isinstance(step, Float64Step) else nullcontext()


def cast_model(model: torch.nn.Module, dtype: torch.dtype) -> torch.nn.Module:
    """The model with its parameters and buffers in `dtype`, in place, as `model.to(dtype)` but for
    complex ones, which keep their imaginary parts."""
    model._apply(lambda x: _cast(x, dtype))  # type: ignore[no-untyped-call]
    return model


def cast_tensors(tree: Any, dtype: torch.dtype) -> Any:
    """The pytree with its floating-point and complex tensors in `dtype`."""
    return tree_map(lambda x: _cast(x, dtype) if isinstance(x, torch.Tensor) else x, tree)


def _cast(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The tensor in `dtype`; complex ones have no less than single precision."""
    if x.is_complex():
        return x.to(torch.complex128 if dtype == torch.float64 else torch.complex64)
    return x.to(dtype) if x.is_floating_point() else x

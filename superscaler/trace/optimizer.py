"""The optimizer as graph operators: which state tensors it keeps, and that it is element-wise."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from superscaler.errors import TraceError
from superscaler.user_code import UserCode
from superscaler.workload import OPTIMIZER

OptimizerFactory = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]

# Of the steps that are tried: norms of the whole and of a part differ in other ratios at each, and
# from those of the parameters, so that neither a constant factor nor one by the scale hides a norm.
GRADIENTS = ((1.3, 0.3), (2.9, 50.0), (0.45, 0.02))
_NOT_ELEMENTWISE = ("LBFGS", "Adafactor", "Muon", "SparseAdam")


@dataclass(frozen=True)
class OptimizerState:
    """Per parameter the (name, dtype) of its element-wise states, and the optimizer's text."""

    states: dict[str, tuple[tuple[str, torch.dtype], ...]]
    text: str


def probe_optimizer(factory: OptimizerFactory, parameters: dict[str, Tensor]) -> OptimizerState:
    """Run the user's optimizer on tiny stand-ins of the parameters and see what it keeps.

    A stand-in has its parameter's dtype and number of dims, so that groups by these are as the
    user made them. Steps on the whole and on parts of the stand-ins must agree: an update that is
    not element-wise cannot be split.

    Raises TraceError for what is no callable, raises, or makes no optimizer, and for optimizers
    that are not element-wise.
    """
    if not callable(factory):
        raise TraceError(f"expected {OPTIMIZER} found {factory!r}")
    whole = [_stand_in(p.dim(), p.dtype) for p in parameters.values()]
    parts = [nn.Parameter(_part(p.detach()).clone()) for p in whole]
    before = [p.detach().clone() for p in parts]
    grads = [[_gradient(p, *wave) for p in whole] for wave in GRADIENTS]
    optimizer = _after_steps(factory, whole, grads)
    _after_steps(factory, parts, [[_part(g) for g in of_step] for of_step in grads])
    name = type(optimizer).__name__
    for parameter, part, start in zip(whole, parts, before, strict=True):
        if not _moved_alike(_part(parameter.detach()), part.detach(), start):
            raise TraceError(_not_elementwise(name))
    states = {
        key: _states_of(optimizer, name, parameter)
        for key, parameter in zip(parameters, whole, strict=True)
    }
    return OptimizerState(states, _text(optimizer))


def _after_steps(
    factory: OptimizerFactory, parameters: list[nn.Parameter], grads: list[list[Tensor]]
) -> torch.optim.Optimizer:
    with UserCode("optimizer(parameters) raised", kind=TraceError):
        optimizer = factory(parameters)
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TraceError(
            f"optimizer(parameters) returned an object of type {type(optimizer).__name__}; "
            "return a torch.optim.Optimizer"
        )
    if type(optimizer).__name__ in _NOT_ELEMENTWISE:
        raise TraceError(_not_elementwise(type(optimizer).__name__))
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    if any(id(p) not in held for p in parameters):
        raise TraceError(
            f"{type(optimizer).__name__} leaves out parameters it was given; pass it all of "
            "them, rather than those of a model at hand, and set requires_grad_(False) on those to "
            "be left alone; they come in the order of model.named_parameters(), so that zip() with "
            "the names there makes groups by name"
        )
    for of_step in grads:
        for parameter, grad in zip(parameters, of_step, strict=True):
            parameter.grad = grad.clone()
        with UserCode(f"a step of {type(optimizer).__name__} raised", kind=TraceError):
            optimizer.step()
    return optimizer


def _stand_in(num_dims: int, dtype: torch.dtype) -> nn.Parameter:
    shape = [2 + d for d in range(num_dims)]
    return nn.Parameter(_numbers(shape, 0.7, 1.0).to(dtype))


def _gradient(parameter: Tensor, wave: float, scale: float) -> Tensor:
    return _numbers(list(parameter.shape), wave, scale).to(parameter.dtype)


def _numbers(shape: list[int], wave: float, scale: float) -> Tensor:
    """Fixed numbers of both signs and several magnitudes."""
    count = int(torch.Size(shape).numel())
    return (torch.arange(1, count + 1) * wave).sin().mul(scale).view(shape)


def _part(tensor: Tensor) -> Tensor:
    """The last row, without the last column."""
    for dim in range(tensor.dim()):
        tensor = tensor[-1:] if dim == 0 else tensor.narrow(dim, 0, tensor.shape[dim] - 1)
    return tensor


def _moved_alike(whole: Tensor, part: Tensor, start: Tensor) -> bool:
    """Whether two updated tensors went the same way from where both started, but for rounding."""
    rounding = 4 * torch.finfo(start.dtype).eps * float(start.abs().max())
    return torch.allclose(whole - start, part - start, rtol=1e-3, atol=rounding, equal_nan=True)


def _states_of(
    optimizer: torch.optim.Optimizer, name: str, parameter: Tensor
) -> tuple[tuple[str, torch.dtype], ...]:
    found = []
    for key, value in optimizer.state[parameter].items():
        if not isinstance(value, Tensor) or key == "step":
            continue
        if value.shape == parameter.shape:
            found.append((key, value.dtype))
        elif value.numel() > 1:
            raise TraceError(_not_elementwise(name))
    return tuple(found)


def _not_elementwise(name: str) -> str:
    return (
        f"optimizer {name} does not update its parameters element by element, so its update cannot "
        "be split over devices; use SGD, Adam, AdamW, Adagrad, RMSprop or another element-wise one "
        "and, to clip gradients, clip_grad_norm of the workload or of ss.parallelize"
    )


def _text(optimizer: torch.optim.Optimizer) -> str:
    """ "AdamW(lr=0.001, betas=(0.9, 0.999), ...)": the class and its defaults."""
    settings = ", ".join(f"{key}={value!r}" for key, value in optimizer.defaults.items())
    return f"{type(optimizer).__name__}({settings})"

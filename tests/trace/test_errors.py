"""What cannot be traced is refused, naming line and way out; the model stays as it was."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from superscaler.errors import TraceError
from superscaler.precision import in_float64
from superscaler.trace import trace

OTHER = nn.Linear(8, 8)


def _sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1)


def _trace(step: Callable[..., Any], model: nn.Module | None = None, batch: Any = None) -> None:
    model = nn.Linear(8, 8) if model is None else model
    trace(step, model, torch.randn(4, 8) if batch is None else batch, _sgd)


def _branch(model: nn.Module, x: Tensor) -> Tensor:
    y = model(x)
    if y.sum() > 0:
        y = y * 2
    return y.sum()


def _number(model: nn.Module, x: Tensor) -> Tensor:
    return model(x).sum() * model(x).max().item()


def _selection(model: nn.Module, x: Tensor) -> Tensor:
    y = model(x)
    return y[y > 0].sum()


@pytest.mark.parametrize("step", [_branch, _number, _selection])
def test_data_dependent_control_flow(step: Any, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(TraceError) as error:
        _trace(step)
    assert f"in {step.__name__}: the step depends on the values of tensors" in str(error.value)
    assert str(error.value).startswith("test_errors.py:")
    assert "use torch.where" in str(error.value) or "by torch.where" in str(error.value)
    assert capfd.readouterr().err == ""


def _ctc(m: nn.Module, x: Tensor) -> Tensor:
    scores = m(x).log_softmax(-1)[:, None]
    lengths = torch.tensor([len(x)]), torch.tensor([2])
    return nn.functional.ctc_loss(scores, torch.tensor([[1, 2]]), *lengths)


def _backward(model: nn.Module, x: Tensor) -> Tensor:
    loss = model(x).sum()
    loss.backward()
    return loss


def _penalty(model: nn.Module, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    (grad,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
    return grad.square().mean()


def _functional_penalty(model: nn.Module, x: Tensor) -> Tensor:
    return torch.func.grad(lambda x: model(x).sum())(x).square().mean()


def _average(model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        next(model.parameters()).mul_(0.99)
    return model(x).sum()


TEACHER = [nn.Sequential(nn.Linear(8, 40), nn.Linear(40, 8)).requires_grad_(False)]


def _distillation(model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        wanted = TEACHER[0](x)
    return (model(x) - wanted).square().mean()


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (lambda m, x: m(x), r"the loss has shape \(4, 8\); return a scalar tensor"),
        (lambda m, x: [m(x).sum()], r"the step returned a list of \(FakeTensor\); return the loss"),
        (lambda m, x: None, "the step returned a NoneType; return the loss"),
        (lambda m, x: (m(x) > 0).sum(), "the loss is of torch.int64; return a floating-point"),
        (lambda m, x: (m(x).sum(), {"a": 3.0}), "metric 'a' is a float; metrics are tensors"),
        (
            lambda m, x: (m(x).sum(), {"rows": m(x).sum(1)}),
            r"metric 'rows' has shape \(4,\); return scalars: its mean\(\) or sum\(\)",
        ),
        (lambda m, x: x.sum(), "the loss does not depend on any parameter"),
        (lambda m, x: m(x).detach().sum(), "the loss does not depend on any parameter"),
        (lambda m, x: m(x.add_(1)).sum(), "changes batch leaf batch in place; only buffers may"),
        (lambda m, x: torch.fft.fft(m(x)).sum(), "the loss is of torch.complex64; return a float"),
        (
            lambda m, x: m(x)[torch.multinomial(x[0].abs(), 4)].sum(),
            "random operator aten.multinomial.default",
        ),
        (lambda m, x: (m(x) + OTHER(x)).sum(), "uses the module OTHER from around it"),
        (
            lambda m, x: torch.cond(x.sum() > 0, torch.sin, torch.cos, (m(x),)).sum(),
            "operator cond is not supported; write it out",
        ),
        (
            _backward,
            r"test_errors.py:\d+, in _backward: the step calls backward; let it return the .*"
            "`microbatches` of a plan accumulates",
        ),
        (in_float64(_backward), r"test_errors.py:\d+, in _backward: the step calls backward"),
        (_ctc, r"in _ctc: the step depends on .*: aten\._ctc_loss\.Tensor computes by them"),
        (lambda m, x: (m(x).sum(), {"n": x.sum().item()}), "metric 'n' is a number read from a"),
        (_penalty, r"test_errors.py:\d+, in _penalty: the step takes gradients itself"),
        (_functional_penalty, r"in _functional_penalty: the step takes gradients itself"),
        (_average, r"in _average: the step changes parameter weight in place; .* in buffers"),
        (_distillation, r"in _distillation: the step reads a constant .* put that module into the"),
    ],
)
def test_steps(step: Callable[..., Any], message: str) -> None:
    with pytest.raises(TraceError, match=message):
        _trace(step)


def _raises(model: nn.Module, x: Tensor) -> Tensor:
    raise KeyError("labels")


def test_errors_of_the_step_are_named_with_their_line() -> None:
    said = r"^the step raised RuntimeError: .*must have same reduction dim"
    with pytest.raises(TraceError, match=said) as caught:
        _trace(lambda m, x: m(x[:, :3]).sum())
    assert isinstance(caught.value.__cause__, RuntimeError)
    said = r"^the step raised KeyError: 'labels' \(at .*test_errors\.py:\d+: raise KeyError"
    with pytest.raises(TraceError, match=said):
        _trace(_raises)


class _With(nn.Module):
    """A linear layer, and an attribute."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)
        self.value = value

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x) + (self.value.sum() if isinstance(self.value, Tensor) else 0)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Linear(8, 8).requires_grad_(False), "no parameter that requires a gradient"),
        (nn.LazyLinear(3), "parameter weight has no shape yet; run the lazy module once"),
        (_With(threading.Lock()), "the model cannot be copied for tracing"),
        (_With(torch.randn(40, 8)), r"a constant tensor of shape \(40, 8\); make it a buffer"),
        (_With(torch.empty(3, device="meta")), "tensor value is on the meta device and is neither"),
    ],
)
def test_models(model: nn.Module, message: str) -> None:
    batch = torch.randn(4, 8)
    with pytest.raises(TraceError, match=message):
        _trace(lambda m, x: m(x).abs().sum(), model, batch)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"x": torch.ones(4, 8), "other": object()}, "batch leaf other is of type object; a batch"),
    ],
)
def test_batches(batch: Any, message: str) -> None:
    with pytest.raises(TraceError, match=message):
        _trace(lambda m, b: m(b["x"]).sum(), None, batch)


@pytest.mark.parametrize("name", ["LBFGS", "Adafactor", "Muon", "SparseAdam"])
def test_optimizers_that_are_not_elementwise(name: str) -> None:
    model = nn.Linear(8, 8, bias=False)
    with pytest.raises(TraceError, match=f"optimizer {name} does not update .* use SGD, Adam"):
        trace(lambda m, x: m(x).sum(), model, torch.randn(4, 8), getattr(torch.optim, name))


class _TrustRatio(torch.optim.SGD):
    """Scales each update by its parameter's norm, as LARS does."""

    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                p.grad.mul_(p.detach().norm() / (p.grad.norm() + 1e-6))
        super().step()


class _ClipsAdam(torch.optim.AdamW):
    """Adam does not see factors that are the same at each step."""

    def step(self, closure: Any = None) -> None:
        torch.nn.utils.clip_grad_norm_(self.param_groups[0]["params"], 0.01)
        super().step()


class _Fails(torch.optim.SGD):
    def step(self, closure: Any = None) -> None:
        1 / 0  # noqa: B018


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (None, r"expected a callable from parameters to an optimizer, such as .*, found None"),
        ("adamw", r"expected a callable from parameters to an optimizer, .*, found 'adamw'"),
        (
            lambda p: torch.optim.SGD(p, lr=-1),
            r"optimizer\(parameters\) raised ValueError: Invalid learning rate: -1 "
            r"\(at .*test_errors\.py:\d+: lambda p: torch\.optim\.SGD\(p, lr=-1\)",
        ),
        (_Fails, r"a step of _Fails raised ZeroDivisionError: .* \(at .*: 1 / 0"),
        (lambda p: 3, r"optimizer\(parameters\) returned an object of type int; return a torch"),
        (lambda p: torch.optim.SGD(list(p)[:1]), "SGD leaves out parameters it was given"),
        (_TrustRatio, "optimizer _TrustRatio does not update its parameters element by element"),
        (_ClipsAdam, "optimizer _ClipsAdam does not .* and, to clip .*, clip_grad_norm"),
    ],
)
def test_optimizers(optimizer: Any, message: str) -> None:
    with pytest.raises(TraceError, match=message):
        trace(lambda m, x: m(x).sum(), nn.Linear(8, 8), torch.randn(4, 8), optimizer)


class _Remembers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)
        self.register_buffer("count", torch.zeros(()))
        self.calls = 0
        self.last: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.count += 1
        self.last = self.fc(x)
        return self.last


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_stays_as_it_was(fails: bool) -> None:
    model = _Remembers().eval()
    weight, before = model.fc.weight, model.fc.weight.detach().clone()
    step = _branch if fails else lambda m, x: m(x).sum()
    try:
        _trace(step, model)
    except TraceError:
        assert fails
    assert model.fc.weight is weight
    assert torch.equal(weight, before)
    assert weight.grad is None
    assert (model.calls, model.last, model.count.item(), model.training) == (0, None, 0.0, False)

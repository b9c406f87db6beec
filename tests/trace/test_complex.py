"""Complex numbers: rotary embeddings, Fourier layers, complex parameters, buffers and batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from compare import compare
from torch import Tensor, nn

from superscaler.errors import TraceError
from superscaler.precision import in_float64
from superscaler.trace import trace


def _angles(size: int, length: int) -> Tensor:
    steps = 1.0 / 100 ** (torch.arange(0, size, 2).double() / size)
    return torch.outer(torch.arange(length).double(), steps)


def _rotated(x: Tensor, turns: Tensor) -> Tensor:
    """Rotary embedding as the original LLaMA writes it."""
    pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * turns).flatten(-2)


class Rotary(nn.Module):
    """A linear layer whose rows are rotated by their positions."""

    def __init__(self, as_buffer: bool) -> None:
        super().__init__()
        self.weight = nn.Linear(8, 8)
        turns = torch.polar(torch.ones(6, 4).double(), _angles(8, 6))
        if as_buffer:
            self.register_buffer("turns", turns, persistent=False)
        else:
            self.turns = turns

    def forward(self, x: Tensor) -> Tensor:
        return _rotated(self.weight(x), self.turns)


class Filter(nn.Module):
    """Frequencies times complex weights."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.weight = nn.Parameter(torch.randn(4, 8, dtype=torch.complex128))

    def forward(self, x: Tensor) -> Tensor:
        frequencies = torch.fft.rfft(self.linear(x), dim=1, norm="ortho")
        return torch.fft.irfft(frequencies * self.weight, n=x.shape[1], dim=1, norm="ortho")


def _made(model: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return model().double()


def _linear() -> nn.Module:
    return nn.Linear(8, 8)


def _batch() -> dict[str, Tensor]:
    torch.manual_seed(1)
    x = torch.randn(4, 6, 8, dtype=torch.float64)
    return {"x": x, "z": torch.randn(4, 6, 8, dtype=torch.complex128)}


def _square(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    return model(batch["x"]).square().mean()


@pytest.mark.parametrize("as_buffer", [True, False])
def test_rotary_embedding(as_buffer: bool) -> None:
    torch.manual_seed(0)
    model = Rotary(as_buffer)
    model.weight.double()
    compare(_square, model, _batch())


def test_complex_parameter() -> None:
    torch.manual_seed(0)
    model = Filter()
    model.linear.double()
    graph = compare(_square, model, _batch())
    assert {t.dtype for t in graph.tensors if t.name.startswith("weight")} == {torch.complex128}
    compare(_square, model, _batch(), clip_grad_norm=0.1)


STEPS: dict[str, Callable[[Any, dict[str, Tensor]], Tensor]] = {
    "polar": lambda m, b: _rotated(
        m(b["x"]), torch.polar(torch.ones(6, 4).double(), _angles(8, 6))
    ),
    "fnet": lambda m, b: torch.fft.fft(torch.fft.fft(m(b["x"]), dim=-1), dim=-2).real,
    "ifft": lambda m, b: torch.fft.ifft2(torch.fft.fft2(m(b["x"])) * b["z"].conj()).imag,
    "hfft": lambda m, b: torch.fft.hfft(m(b["x"]) * b["z"], dim=1),
    "ihfft": lambda m, b: torch.fft.ihfft(m(b["x"]), dim=1).abs(),
    "rfftn": lambda m, b: torch.fft.irfftn(torch.fft.rfftn(m(b["x"]), dim=(1, 2)) * 2j, dim=(1, 2)),
    "angle": lambda m, b: torch.complex(m(b["x"]), b["x"]).angle(),
    "einsum": lambda m, b: torch.einsum("bij,bkj->bik", m(b["x"]) + 1j, b["z"]).abs(),
    "mean": lambda m, b: (m(b["x"]) * b["z"]).mean(1).abs(),
    "var": lambda m, b: (m(b["x"]) * b["z"]).var(1),
    "norm": lambda m, b: (m(b["x"]) * b["z"]).norm(dim=1),
    "exp": lambda m, b: torch.exp(1j * m(b["x"])).real.sum(1, keepdim=True).mT,
    "shift": lambda m, b: torch.fft.fftshift(torch.fft.fft(m(b["x"])), dim=-1).abs(),
    "pieces": lambda m, b: torch.view_as_real(torch.fft.rfft(m(b["x"]))[..., 1:3]),
    "randn": lambda m, b: (m(b["x"]) + torch.randn(8, dtype=torch.complex128)).abs(),
    "rand": lambda m, b: (m(b["x"]) * torch.rand_like(b["z"])).imag,
    "channels": lambda m, b: nn.functional.dropout1d(m(b["x"]) * b["z"], 0.3).abs(),
    "spectrogram": lambda m, b: torch.stft(m(b["x"])[0], 4, return_complex=True).abs(),
    "padded": lambda m, b: torch.fft.irfft(torch.fft.rfft(m(b["x"]), dim=1), n=10, dim=1),
}


@pytest.mark.parametrize("name", STEPS)
def test_functions_of_complex_numbers(name: str) -> None:
    def step(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        return STEPS[name](model, batch).square().mean()

    compare(step, _made(_linear), _batch())


def test_whole_numbers_become_complex_in_the_default_dtype() -> None:
    def step(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        turns = torch.exp(1j * torch.arange(8) / 3)
        return (model(batch["x"]) * turns).imag.square().mean()

    graph = compare(in_float64(step), _made(_linear), _batch())
    assert not any(t.dtype in (torch.float32, torch.complex64) for t in graph.tensors)


def test_no_result_is_a_lazy_conjugate() -> None:
    def step(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        return (torch.complex(model(batch["x"]), batch["x"]).conj() * batch["z"]).imag.mean()

    graph = compare(step, _made(_linear), _batch())
    lazy = {"aten._conj.default", "aten._neg_view.default"}
    assert not lazy & {op.target for op in graph.operators}


def test_complex_metric_is_refused() -> None:
    def step(model: nn.Module, batch: dict[str, Tensor]) -> Any:
        return _square(model, batch), {"sum": batch["z"].sum()}

    with pytest.raises(TraceError, match=r"metric 'sum' is of torch.complex128; return real numb"):
        trace(step, _made(_linear), _batch(), lambda p: torch.optim.SGD(p, lr=0.1))

"""Gradients on and off, and autocast, inside of each other."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import pytest
import torch
from compare import compare
from torch import Tensor, nn
from torch.amp import autocast_mode

from superscaler.graph.operator import Phase
from superscaler.trace.modes import Modes


class Two(nn.Module):
    """Two layers; the first's part is made under `first`, all of it under `outer`."""

    def __init__(self, first: Callable[[], AbstractContextManager[object]]) -> None:
        super().__init__()
        self.a, self.b, self.first = nn.Linear(8, 8), nn.Linear(8, 8), first

    def forward(self, x: Tensor) -> Tensor:
        with self.first():
            hidden = self.a(x).relu()
        return self.b(hidden.clone() + self.a(x + 1).relu())


def low(enabled: bool = True) -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16, enabled=enabled)


OUTER = {"autocast": low, "plain": nullcontext}
FIRST = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": low,
    "no autocast": lambda: low(False),
    "plain": nullcontext,
}


@pytest.mark.parametrize("first", FIRST)
@pytest.mark.parametrize("outer", OUTER)
def test_modes_inside_of_each_other(outer: str, first: str) -> None:
    def step(model: nn.Module, x: Tensor) -> Tensor:
        with OUTER[outer]():
            return model(x).float().square().sum()

    torch.manual_seed(0)
    lower = "autocast" in (outer, first)
    graph = compare(step, Two(FIRST[first]), torch.randn(4, 8), tolerance=0.05 if lower else 1e-6)
    gradients = [op for op in graph.operators if op.phase is Phase.BACKWARD and op.module == "a"]
    once = [op for op in gradients if op.target == "aten.mm.default"]
    assert len(once) == (1 if first in ("no_grad", "inference_mode") else 2)


def test_gradients_on_again_and_in_decorators() -> None:
    class Mixed(Two):
        @torch.no_grad()
        def still(self, x: Tensor) -> Tensor:
            with torch.enable_grad():
                kept = self.b(x)
            return self.a(x) + kept

        def forward(self, x: Tensor) -> Tensor:
            return self.still(x) * self.b(x) + self.a(x)

    def step(model: nn.Module, x: Tensor) -> Tensor:
        with low():
            return model(x).float().square().sum()

    torch.manual_seed(0)
    compare(step, Mixed(nullcontext), torch.randn(4, 8), tolerance=0.05)


def test_autocast_of_float64_is_exact() -> None:
    """Autocast leaves float64, so a gradient too many is seen to the last digits."""

    def step(model: nn.Module, x: Tensor) -> Tensor:
        with low():
            return model(x).square().sum()

    torch.manual_seed(0)
    compare(step, Two(torch.no_grad).double(), torch.randn(4, 8, dtype=torch.float64))


def test_modes_are_as_before_after_an_error() -> None:
    def fail() -> None:
        with Modes() as modes:
            modes.switch(autocast_mode._enter_autocast, "cuda", torch.bfloat16, True, True)
            modes.switch(torch._C._set_grad_enabled, False)
            assert torch.is_autocast_enabled("cpu")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert torch.is_grad_enabled()
    assert not torch.is_autocast_enabled("cpu")
    assert torch.autocast_increment_nesting() == 1  # a cache of casts is emptied at 0
    torch.autocast_decrement_nesting()

"""A float64 step computes nothing in float32, and its replaced operators agree with torch's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint

import superscaler as ss
from superscaler.precision import Float64Mode
from superscaler.workload import cast, load_workload

MODELS = Path(__file__).parent / "models"
FAMILIES = [f"{path.stem}.py:{path.stem}" for path in sorted(MODELS.glob("*.py"))]
FAMILIES = [name for name in FAMILIES if name not in ("toy.py:toy", "others.py:others")] + [
    "others.py:gemma2",
    "others.py:deberta",
    "others.py:mamba",
]


class NarrowTensors(TorchDispatchMode):
    """Collects the operators that give float32 tensors of more than one number."""

    def __init__(self) -> None:
        super().__init__()
        self.operators: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor) and leaf.dtype == torch.float32 and leaf.dim():
                self.operators.add(str(func))
        return out


@pytest.mark.parametrize("name", FAMILIES)
def test_a_float64_step_is_float64_throughout(name: str) -> None:
    workload = load_workload(str(MODELS / name))
    wide = cast(workload, torch.float64)
    with NarrowTensors() as narrow:
        out = wide.step(wide.model, wide.batch)
        loss = out[0] if isinstance(out, tuple) else out
        loss.backward()
    assert narrow.operators == set()
    assert loss.dtype == torch.float64
    gradients = [p.grad for p in wide.model.parameters() if p.grad is not None]
    assert gradients
    assert all(g.dtype == torch.float64 and g.isfinite().all() for g in gradients)


def test_grouped_mm_in_float64() -> None:
    torch.manual_seed(0)
    x = torch.randn(8, 16, requires_grad=True)
    weights = torch.randn(3, 16, 32, requires_grad=True)
    offs = torch.tensor([2, 2, 8], dtype=torch.int32)
    narrow = torch.nn.functional.grouped_mm(x, weights, offs=offs)
    expected = torch.autograd.grad(narrow.square().sum(), (x, weights))
    with Float64Mode():
        wide = torch.nn.functional.grouped_mm(x.double(), weights.double(), offs=offs)
    assert wide.dtype == torch.float64
    torch.testing.assert_close(wide.float(), narrow)
    torch.testing.assert_close(torch.autograd.grad(wide.square().sum(), (x, weights)), expected)


def test_the_mode_ends_with_the_step_that_raises() -> None:
    def fail() -> None:
        with Float64Mode():
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fail()
    assert torch.get_default_dtype() == torch.float32
    assert torch.zeros(1).float().dtype == torch.float32


def test_a_checkpoint_is_run_again_in_float64() -> None:
    def step(model: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
        def narrow(y: torch.Tensor) -> torch.Tensor:
            return model(y).float().softmax(-1).to(y.dtype)

        out: torch.Tensor = checkpoint(narrow, x, use_reentrant=False)
        return out.square().mean()

    workload = ss.Workload(
        step=step, model=torch.nn.Linear(4, 4), optimizer=torch.optim.SGD, batch=torch.randn(4, 4)
    )
    assert ss.verify(workload, "data_parallel(dp=2)", processes=False).ok

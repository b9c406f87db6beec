"""Linear algebra whose kernels report errors by a value, which is checked as in plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from compare import Trainer, adamw, compare
from torch import Tensor, nn

from superscaler.trace import trace

FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "solve": lambda y: torch.linalg.solve(y, y + 1),
    "inverse": torch.linalg.inv,
    "determinant": torch.linalg.det,
    "cholesky": lambda y: torch.linalg.cholesky(y @ y.mT + torch.eye(4, dtype=y.dtype)),
    "eigenvalues": torch.linalg.eigvals,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_linear_algebra(name: str) -> None:
    torch.manual_seed(0)

    def step(model: nn.Module, batch: Tensor) -> Tensor:
        return FUNCTIONS[name](model(batch)).abs().square().mean()

    batch = torch.randn(3, 4, 4, dtype=torch.float64) + 3 * torch.eye(4, dtype=torch.float64)
    compare(step, nn.Linear(4, 4).double(), batch)


BAD: dict[str, tuple[Callable[[Tensor], Tensor], Tensor]] = {
    "solve": (lambda y: torch.linalg.solve(y, y + 1), torch.ones(2, 2)),
    "inverse": (torch.linalg.inv, torch.ones(2, 2)),
    "cholesky": (torch.linalg.cholesky, torch.tensor([[1.0, 2.0], [2.0, -4.0]])),
}


@pytest.mark.parametrize("name", BAD)
def test_a_matrix_that_has_no_result_raises_as_in_plain_pytorch(name: str) -> None:
    """A Cholesky factor of such a matrix would be finite, and wrong."""
    function, matrix = BAD[name]

    def step(model: nn.Module, batch: Tensor) -> Tensor:
        return function(model(batch)).square().mean()

    model = nn.Linear(2, 2, bias=False).double()
    nn.init.eye_(model.weight)
    good, bad = torch.eye(2).double().expand(2, 2, 2), matrix.double().expand(2, 2, 2)
    with pytest.raises(torch.linalg.LinAlgError):
        step(model, bad)
    graph = trace(step, model, good, adamw)
    trainer = Trainer(graph, model, adamw)
    trainer.step(good, 0)
    with pytest.raises(torch.linalg.LinAlgError, match=r"linalg\.\w+: "):
        Trainer(graph, model, adamw).step(bad, 0)

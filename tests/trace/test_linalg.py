"""Linear algebra whose kernels report errors by a value: the check of that value is left out."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from compare import compare
from torch import Tensor, nn

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

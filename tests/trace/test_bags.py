"""Bags of embeddings: those of one size are a lookup and a sum, others stay torch's operator."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from compare import compare
from torch import Tensor, nn

from superscaler.trace import trace


def _bag(mode: str, padding_idx: int | None = None) -> nn.Module:
    torch.manual_seed(0)
    return nn.EmbeddingBag(12, 6, mode=mode, padding_idx=padding_idx).double()


def _batch() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(12, (4, 5), generator=generator)
    rows[0] = 3
    rows[1, :2] = 3
    offsets = torch.tensor([0, 4, 4, 13])
    return {
        "rows": rows,
        "offsets": offsets,
        "weights": torch.rand(4, 5, generator=generator).double(),
    }


def _equal(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    return model(batch["rows"]).square().mean()


def _targets(model: nn.Module, step) -> set[str]:
    graph = trace(step, model, _batch(), lambda p: torch.optim.SGD(p, lr=0.1))
    return {op.target for op in graph.operators}


@pytest.mark.parametrize("padding_idx", [None, 3, -9])
@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_bags_of_one_size(mode: str, padding_idx: int | None) -> None:
    compare(_equal, _bag(mode, padding_idx), _batch())
    assert not any("bag" in target for target in _targets(_bag(mode, padding_idx), _equal))


@pytest.mark.parametrize("padding_idx", [None, 3])
def test_rows_with_weights(padding_idx: int | None) -> None:
    def step(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        bags = model(batch["rows"], per_sample_weights=batch["weights"])
        return bags.square().mean()

    compare(step, _bag("sum", padding_idx), _batch())


def test_bags_of_a_flat_list() -> None:
    def step(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        return model(batch["rows"].flatten(), batch["offsets"]).square().mean()

    compare(step, _bag("mean"), _batch())
    assert "aten._embedding_bag.default" in _targets(_bag("mean"), step)


def test_frequencies_stay_with_torch() -> None:
    def step(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        (weight,) = model.parameters()
        bags = F.embedding_bag(batch["rows"], weight, scale_grad_by_freq=True)
        return bags.square().mean()

    compare(step, _bag("mean"), _batch())
    assert "aten._embedding_bag.default" in _targets(_bag("mean"), step)

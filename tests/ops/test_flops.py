"""The arithmetic of product operators: one table for stage cuts and for the simulator."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import superscaler as ss
from superscaler.ops.flops import flops, is_product, operator_flops


@pytest.mark.parametrize(
    ("name", "inputs", "outputs", "expected"),
    [
        ("mm", [(2, 3), (3, 5)], [(2, 5)], 60),
        ("bmm", [(7, 2, 3), (7, 3, 5)], [(7, 2, 5)], 420),
        ("addmm", [(5,), (2, 3), (3, 5)], [(2, 5)], 60),
        ("convolution", [(1, 3, 8, 8), (4, 3, 3, 3)], [(1, 4, 6, 6)], 7776),
        ("convolution_backward", [(1, 4, 6, 6), (1, 3, 8, 8), (4, 3, 3, 3)], [(1, 3, 8, 8)], 15552),
        ("attention", [(1, 2, 5, 3), (1, 2, 7, 3), (1, 2, 7, 3)], [(1, 2, 5, 3)], 840),
        ("grouped_mm", [(6, 3), (2, 3, 5), (2,)], [(6, 5)], 180),
        ("add", [(2, 3), (2, 3)], [(2, 3)], 0),
    ],
)
def test_products(name: str, inputs: object, outputs: object, expected: float) -> None:
    assert flops(name, inputs, outputs) == expected  # type: ignore[arg-type]


class Attention(nn.Module):
    """With a mask that is trained, as T5's bias."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.bias = nn.Parameter(torch.zeros(1, 2, 4, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (self.linear(x).view(-1, 4, 2, 4).transpose(1, 2) for _ in range(3))
        return nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=self.bias)


def test_a_graphs_operators() -> None:
    graph = ss.trace(
        lambda model, x: model(x).square().sum(),
        Attention(),
        torch.zeros(2, 4, 8),
        lambda parameters: torch.optim.SGD(parameters, lr=0.1),
    )
    products = {op.target.split(".")[1]: op for op in graph.operators if is_product(op)}
    assert {"mm", "attention", "attention_backward_mask"} <= set(products)
    forward = operator_flops(graph, products["attention"])
    assert forward == 2 * (2 * 2 * 4 * 4 * 4) * 2
    assert operator_flops(graph, products["attention_backward_mask"]) == 2.5 * forward

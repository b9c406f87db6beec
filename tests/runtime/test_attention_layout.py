"""The formula of attention, laid out as torch's own choice of a kernel lays it out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from superscaler.runtime.attention_layout import as_laid_out, plain_attention


def heads(*order: int) -> Tensor:
    """Of 2 samples, 3 heads, 5 tokens and 4 features, in memory in this order."""
    sizes = (2, 3, 5, 4)
    made = torch.randn([sizes[d] for d in order])
    return made.permute([order.index(d) for d in range(4)])


MASK = torch.ones(5, 5, dtype=torch.bool).tril()


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 2, 1, 3), (2, 0, 1, 3)])
@pytest.mark.parametrize(
    "options",
    [{}, {"is_causal": True}, {"attn_mask": MASK}, {"dropout_p": 0.5}, {"scale": 2.0}],
    ids=str,
)
def test_it_lies_as_in_plain_pytorch(order: tuple[int, ...], options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    query = heads(*order)
    expected = F.scaled_dot_product_attention(query, query, query, **options)
    with plain_attention():
        found = F.scaled_dot_product_attention(query=query, key=query, value=query, **options)
    assert found.stride() == expected.stride()
    if "dropout_p" not in options:
        torch.testing.assert_close(found, expected)


def test_what_the_user_switched_off_is_not_chosen() -> None:
    query = heads(0, 2, 1, 3)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        expected = F.scaled_dot_product_attention(query, query, query)
        with plain_attention():
            found = F.scaled_dot_product_attention(query, query, query)
    assert found.stride() == expected.stride() == (60, 20, 4, 1)


def test_inside_of_modules() -> None:
    layer = nn.MultiheadAttention(12, 3)
    x = torch.randn(5, 2, 12)
    expected, _ = layer(x, x, x, need_weights=False)
    with plain_attention():
        found, _ = layer(x, x, x, need_weights=False)
    torch.testing.assert_close(found, expected)


def test_dimensions_keep_their_places() -> None:
    result, like = torch.arange(24.0).view(2, 3, 4), torch.empty(4, 2, 3).permute(1, 2, 0)
    found = as_laid_out(result, like)
    assert torch.equal(found, result)
    assert found.stride() == like.stride() == (3, 1, 6)

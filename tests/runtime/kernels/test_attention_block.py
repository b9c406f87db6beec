"""Attention in blocks of keys: merged in any order it is the whole, with its gradients."""

from __future__ import annotations

from itertools import pairwise, permutations

import pytest
import torch
from torch import Tensor

from superscaler.runtime.kernels import attention_math
from superscaler.runtime.kernels.attention_block import merge

ops = torch.ops.superscaler
SETTINGS = (0.0, True, 0.5, 0)
CUTS = (0, 3, 7, 8)  # of the keys


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(7))


def blocks(k: Tensor, v: Tensor) -> list[tuple[Tensor, Tensor, int]]:
    return [(k[..., a:b, :], v[..., a:b, :], a) for a, b in pairwise(CUTS)]


@pytest.mark.parametrize("query_start", [0, 2, 8])
def test_blocks_in_any_order_merge_to_the_whole(query_start: int) -> None:
    q, k, v = drawn(2, 6, 4, 4), drawn(2, 2, 8, 4), drawn(2, 2, 8, 4)
    whole = ops.attention(q, k, v, None, *SETTINGS, [], query_start)
    for order in permutations(blocks(k, v)):
        partial = None
        for some_k, some_v, start in order:
            found = ops.attention_block(
                q, some_k, some_v, None, *SETTINGS, [], query_start, start, 8
            )
            partial = found if partial is None else merge(partial, found)
        merged = ops.attention_merged(partial, torch.float64)
        for ours, theirs in zip(merged, whole):
            torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_stripes_merge_to_the_whole() -> None:
    """Every third query, on every third key: as many are visible wherever the stripes begin."""
    q, k, v, grad = drawn(2, 6, 4, 4), drawn(2, 2, 12, 4), drawn(2, 2, 12, 4), drawn(2, 6, 4, 4)
    whole = ops.attention(q, k, v, None, *SETTINGS, [], 1, 0, 12, 3, 1)
    call = (grad, q, k, v, None, *whole, *SETTINGS)
    gradients = ops.attention_backward(*call, [], 1, 0, 12, 3, 1)
    partial, dq = None, torch.zeros_like(q)
    for start in (2, 0, 1):
        some_k, some_v = k[..., start::3, :], v[..., start::3, :]
        numbers = ([], 1, start, 12, 3, 3)
        found = ops.attention_block(q, some_k, some_v, None, *SETTINGS, *numbers)
        partial = found if partial is None else merge(partial, found)
        call = (grad, q, some_k, some_v, None, *whole, *SETTINGS)
        found = ops.attention_backward(*call, *numbers)
        dq += found[0]
        for ours, theirs in zip(found[1:], gradients[1:]):
            torch.testing.assert_close(ours, theirs[..., start::3, :], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(dq, gradients[0], rtol=1e-12, atol=1e-12)
    for ours, theirs in zip(ops.attention_merged(partial, torch.float64), whole):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_gradients_of_blocks_add_up_to_those_of_the_whole() -> None:
    q, k, v, grad = drawn(2, 6, 4, 4), drawn(2, 2, 8, 4), drawn(2, 2, 8, 4), drawn(2, 6, 4, 4)
    out, logsumexp = ops.attention(q, k, v, None, *SETTINGS, [], 2)
    whole = ops.attention_backward(grad, q, k, v, None, out, logsumexp, *SETTINGS, [], 2)
    parts = [
        ops.attention_backward(
            grad, q, some_k, some_v, None, out, logsumexp, *SETTINGS, [], 2, start, 8
        )
        for some_k, some_v, start in blocks(k, v)
    ]
    dq, dk, dv = zip(*parts)
    for ours, theirs in zip((sum(dq), torch.cat(dk, 2), torch.cat(dv, 2)), whole):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_what_no_query_sees_is_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k = drawn(1, 1, 4, 4), drawn(1, 1, 4, 4)
    monkeypatch.setattr(attention_math, "forward", None)
    monkeypatch.setattr(attention_math, "backward", None)
    monkeypatch.setattr("superscaler.runtime.kernels.attention_fused.forward_kernel", None)
    monkeypatch.setattr("superscaler.runtime.kernels.attention_fused.backward_kernel", None)
    block = ops.attention_block(q, k, k, None, *SETTINGS, [], 0, 4, 8)
    assert not block[..., :-1].any()
    assert bool((block[..., -1] == -torch.inf).all())
    grads = ops.attention_backward(q, q, k, k, None, q, q[..., 0], *SETTINGS, [], 0, 4, 8)
    assert not any(bool(g.any()) for g in grads)


def test_merging_what_saw_nothing() -> None:
    nothing = torch.zeros(2, 5, dtype=torch.float64)
    nothing[:, -1] = -torch.inf
    some = drawn(2, 5)
    assert torch.equal(merge(nothing, nothing), nothing)
    torch.testing.assert_close(merge(nothing, some), some)


def test_half_precision_is_merged_in_single() -> None:
    q = drawn(1, 2, 4, 8).bfloat16()
    partial = ops.attention_block(q, q, q, None, *SETTINGS)
    assert partial.dtype == torch.float32
    out, logsumexp = ops.attention_merged(partial, torch.bfloat16)
    assert (out.dtype, logsumexp.dtype) == (torch.bfloat16, torch.float32)

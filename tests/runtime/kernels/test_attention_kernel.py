"""Attention: equal to torch's own in float64, with its gradients, as one operator each."""

from itertools import product

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

import superscaler.runtime.kernels  # noqa: F401  registers the operators

ops = torch.ops.superscaler


def tensors(*shapes, seed=0, **options):
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(s, dtype=torch.float64, generator=generator).to(**options).requires_grad_()
        for s in shapes
    ]


def masks(heads, queries, keys):
    added, row = tensors((2, heads, queries, keys), (1, 1, 1, keys), seed=1)
    return {
        "none": None,
        "added": added,
        "row": row.detach(),
        "plane": added[0, 0].detach(),
        "bool": added.detach()[:, :1] > -0.5,
    }


def assert_gradients_equal(ours, theirs, inputs):
    grad = torch.randn_like(theirs)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    for a, b in zip(
        torch.autograd.grad(ours, inputs, grad), torch.autograd.grad(theirs, inputs, grad)
    ):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("heads", "mask_kind", "causal"),
    list(
        product([(4, 4), (6, 2), (4, 1)], ["none", "added", "row", "plane", "bool"], [False, True])
    ),
)
def test_equals_torch(heads, mask_kind, causal):
    q_heads, kv_heads = heads
    q, k, v = tensors((2, q_heads, 8, 4), (2, kv_heads, 8, 4), (2, kv_heads, 8, 4))
    mask = masks(q_heads, 8, 8)[mask_kind]
    if causal and mask is not None:
        hidden = torch.ones(8, 8, dtype=torch.bool).triu(1)
        bool_mask = mask if mask.dtype == torch.bool else None
        theirs_mask = (
            bool_mask & ~hidden if bool_mask is not None else mask.masked_fill(hidden, -torch.inf)
        )
        theirs = scaled_dot_product_attention(q, k, v, theirs_mask, enable_gqa=True)
    else:
        theirs = scaled_dot_product_attention(q, k, v, mask, is_causal=causal, enable_gqa=True)
    ours, _ = ops.attention(q, k, v, mask, 0.0, causal, 0.5, 0)
    inputs = [q, k, v] + ([mask] if mask_kind == "added" else [])
    assert_gradients_equal(ours, theirs, inputs)


@pytest.mark.parametrize("shapes", [
    ((6, 8, 4), (6, 5, 4), (6, 5, 4)),
    ((2, 3, 8, 4), (2, 3, 5, 4), (2, 3, 5, 6)),
    ((2, 3, 8, 4), (1, 3, 5, 4), (1, 3, 5, 4)),
    ((2, 2, 3, 8, 4), (2, 2, 3, 5, 4), (2, 2, 3, 5, 4)),
])  # fmt: skip
def test_other_shapes(shapes):
    q, k, v = tensors(*shapes)
    ours, logsumexp = ops.attention(q, k, v, None, 0.0, False, 0.3, 0)
    assert logsumexp.shape == ours.shape[:-1]
    theirs = scaled_dot_product_attention(q, k, v, scale=0.3)
    assert_gradients_equal(ours, theirs, [q, k, v])


def test_queries_that_see_nothing_give_zeros():
    q, k, v, added = tensors((2, 3, 8, 4), (2, 3, 8, 4), (2, 3, 8, 4), (1, 1, 8, 8))
    mask = torch.ones(8, 8, dtype=torch.bool)
    mask[3] = False
    for given in (mask, torch.zeros(8, 8, dtype=torch.float64).masked_fill(~mask, -torch.inf)):
        out, _ = ops.attention(q, k, v, given, 0.0, False, 0.5, 0)
        assert not out[:, :, 3].any()
        grads = torch.autograd.grad(out.sum(), [q, k, v])
        assert all(g.isfinite().all() for g in grads)
    added = added.masked_fill(~mask, -torch.inf)
    out, _ = ops.attention(q, k, v, added, 0.0, False, 0.5, 0)
    assert torch.autograd.grad(out.sum(), [added])[0].isfinite().all()


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_gradients_by_differences(dropout):
    q, k, v, mask = tensors((1, 4, 3, 2), (1, 2, 3, 2), (1, 2, 3, 2), (4, 3, 3))

    def function(q, k, v, mask):
        return ops.attention(q, k, v, mask, dropout, True, 0.7, 5)[0]

    assert torch.autograd.gradcheck(function, (q, k, v, mask))


def test_dropout_drops_weights_by_query_and_key():
    q, k = torch.zeros(2, 1, 100, 4), torch.zeros(2, 1, 50, 4)
    v = torch.eye(50).expand(2, 1, 50, 50)
    out, _ = ops.attention(q, k, v, None, 0.2, False, 1.0, 5)
    values = out.mul(50 * 0.8).round()
    assert set(values.unique().tolist()) == {0.0, 1.0}
    assert abs(values.mean() - 0.8) < 0.02


@pytest.mark.parametrize("causal", [False, True])
def test_part_of_the_queries(causal):
    q, k, v = tensors((2, 3, 8, 4), (2, 3, 8, 4), (2, 3, 8, 4))
    whole, _ = ops.attention(q, k, v, None, 0.0, causal, 0.5, 0)
    part, _ = ops.attention(q[:, :, 5:], k, v, None, 0.0, causal, 0.5, 0, [], 5)
    torch.testing.assert_close(part, whole[:, :, 5:])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lower_precision(dtype):
    q, k, v = tensors((2, 3, 8, 4), (2, 3, 8, 4), (2, 3, 8, 4), dtype=dtype)
    wide = [x.detach().double() for x in (q, k, v)]
    for dropout in (0.0, 0.3):
        out, _ = ops.attention(q, k, v, None, dropout, True, 0.5, 0)
        expected, _ = ops.attention(*wide, None, dropout, True, 0.5, 0)
        assert out.dtype == dtype
        tolerance = 0.05 if dtype == torch.bfloat16 else 1e-5
        torch.testing.assert_close(out.double(), expected, rtol=tolerance, atol=tolerance)
        out.sum().backward()


def test_one_operator_in_each_direction():
    from functorch.compile import aot_function, make_boxed_func

    seen = []

    def compiler(graph, _):
        seen.append([str(n.target) for n in graph.graph.nodes if "superscaler" in str(n.target)])
        return make_boxed_func(graph.forward)

    q, k, v, mask = tensors((2, 4, 8, 4), (2, 2, 8, 4), (2, 2, 8, 4), (8, 8))
    for mask_grad, name in ((False, "attention_backward"), (True, "attention_backward_mask")):
        seen.clear()
        given = mask.detach().requires_grad_(mask_grad)
        function = aot_function(
            lambda q, k, v, m: ops.attention(q, k, v, m, 0.0, True, 0.5, 0)[0], compiler, compiler
        )
        function(q, k, v, given).sum().backward()
        assert seen == [["superscaler.attention.default"], [f"superscaler.{name}.default"]]


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("mask_kind", ["none", "row", "bool"])
@pytest.mark.parametrize("causal", [False, True])
def test_cuda_equals_cpu(dtype, mask_kind, causal):
    q, k, v = tensors((2, 4, 40, 16), (2, 2, 40, 16), (2, 2, 40, 16))
    mask = masks(4, 40, 40)[mask_kind]
    expected = ops.attention(q, k, v, mask, 0.0, causal, 0.25, 0)[0]
    expected_grads = torch.autograd.grad(expected.sum(), [q, k, v])
    on_gpu = [x.detach().to("cuda", dtype).requires_grad_() for x in (q, k, v)]
    if mask is not None:
        mask = mask.cuda() if mask.dtype == torch.bool else mask.to("cuda", dtype)
    out = ops.attention(*on_gpu, mask, 0.0, causal, 0.25, 0)[0]
    tolerance = 5e-2 if dtype == torch.bfloat16 else 1e-4
    options = {"rtol": tolerance, "atol": tolerance}
    torch.testing.assert_close(out.double().cpu(), expected, **options)
    for a, b in zip(torch.autograd.grad(out.sum(), on_gpu), expected_grads):
        torch.testing.assert_close(a.double().cpu(), b, **options)

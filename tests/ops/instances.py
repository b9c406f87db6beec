"""Calls of operators of every family, on small tensors with dims that tell each other apart."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from parts import Instance, instance

_GENERATOR = torch.Generator().manual_seed(1)


def real(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=_GENERATOR)


def whole(high: int, *shape: int, low: int = 0) -> torch.Tensor:
    return torch.randint(low, high, shape, generator=_GENERATOR)


def truth(*shape: int) -> torch.Tensor:
    return real(*shape) > 0


def elementwise() -> Iterator[Instance]:
    x, y = real(4, 1, 6), real(5, 6)
    for name in ("add", "sub", "mul", "div", "maximum", "minimum", "atan2", "eq", "lt", "ge", "ne"):
        overload = "default" if name in ("maximum", "minimum", "atan2") else "Tensor"
        yield instance(f"aten.{name}.{overload}", x, y)
        yield instance(f"aten.{name}.{overload}", real(4, 6), real(4, 6))
    for name in ("neg", "exp", "tanh", "gelu", "silu", "relu", "sigmoid", "abs", "erf", "cos"):
        yield instance(f"aten.{name}.default", x)
    yield instance("aten.add.Tensor", real(4, 6), real(4, 6), alpha=2)
    yield instance("aten.add.Tensor", real(4, 6), 1.5)
    yield instance("aten.add.Tensor", real(4, 6), real())
    yield instance("aten.rsub.Scalar", real(4, 6), 1.5)
    yield instance("aten.mul.Tensor", real(4, 6), 1.5)
    yield instance("aten.div.Tensor_mode", real(4, 6), real(6), rounding_mode="floor")
    yield instance("aten.pow.Tensor_Scalar", x, 2)
    yield instance("aten.clamp.default", x, -1, 1)
    yield instance("aten.where.self", truth(4, 1), real(4, 6), real(6))
    yield instance("aten.where.ScalarOther", truth(4, 6), real(4, 6), 0)
    yield instance("aten.where.ScalarSelf", truth(4, 6), 1.0, real(4, 6))
    yield instance("aten.masked_fill.Scalar", real(4, 6), truth(6), 0)
    yield instance("aten.masked_fill.Scalar", real(4, 6), truth(6), -1e9)
    yield instance("aten.masked_fill.Tensor", real(4, 6), truth(6), real())
    yield instance("aten.addcmul.default", real(4, 6), real(6), real(4, 6), value=2)
    yield instance("aten.addcdiv.default", real(4, 6), real(6), real(4, 6))
    yield instance("aten.lerp.Scalar", real(4, 6), real(4, 6), 0.3)
    yield instance("aten.lerp.Tensor", real(4, 6), real(4, 6), real(6))
    yield instance("aten._to_copy.default", real(4, 6), dtype=torch.float64)
    yield instance("aten.copy.default", real(4, 6), real(6))
    yield instance("aten.threshold_backward.default", real(4, 6), real(4, 6), 0)
    yield instance("aten.isin.Tensor_Tensor", whole(5, 4, 6), whole(5, 3))
    yield instance("aten.bucketize.Tensor", real(4, 6), real(3).sort()[0])
    for name in ("gelu", "silu", "tanh", "sigmoid"):
        yield instance(f"aten.{name}_backward.default", real(4, 6), real(4, 6).sigmoid())


def views() -> Iterator[Instance]:
    for shape, size in (
        ((4, 6), [24]),
        ((24,), [4, 6]),
        ((4, 1, 6), [4, 6]),
        ((4, 6), [1, 4, 1, 6]),
        ((4, 6), [6, 4]),
        ((4, 3, 6), [12, 6]),
        ((4, 18), [4, 3, 6]),
        ((2, 4, 6, 4, 6, 3), [2, 24, 24, 3]),
        ((6, 10), [4, 15]),
        ((2, 8, 8, 4), [2, 2, 4, 2, 4, 4]),
        ((1, 1), []),
        ((), [1, 1]),
        ((12, 10), [8, 15]),
    ):
        yield instance("aten.view.default", real(*shape), size)
    x = real(4, 1, 6, 3)
    yield instance("aten._unsafe_view.default", x, [4, 18])
    yield instance("aten.permute.default", x, [3, 0, -2, 1])
    yield instance("aten.transpose.int", x, -1, 0)
    yield instance("aten.t.default", real(4, 6))
    yield instance("aten.squeeze.dim", x, 1)
    yield instance("aten.squeeze.dims", x, [0, 1])
    yield instance("aten.unsqueeze.default", x, -2)
    yield instance("aten.expand.default", x, [2, 4, 5, 6, -1])
    yield instance("aten.clone.default", x)
    yield instance("aten.alias.default", x)
    yield instance("aten.detach.default", x)
    yield instance("aten.diagonal.default", x, 0, 2, 3)
    yield instance("aten.diagonal_backward.default", real(4, 3), [4, 6, 3], 0, 1, 2)
    yield instance("aten.diagonal_backward.default", real(6, 2), [4, 6, 3], -2, 0, -1)
    yield instance("aten.view_as_complex.default", real(4, 6, 2))
    yield instance("aten.view_as_real.default", torch.complex(real(4, 6), real(4, 6)))


def slices() -> Iterator[Instance]:
    x = real(4, 12, 3)
    for start, end, step in (
        (0, 6, 1), (6, 12, 1), (4, 8, 1), (-6, 1 << 62, 1), (0, 12, 1), (0, 11, 1), (1, 12, 1),
        (3, 7, 1), (0, 12, 2), (1, 12, 2), (2, 12, 3), (0, 6, 2), (7, 12, 2), (3, 4, 1),
    ):  # fmt: skip
        cut = x[:, start:end:step]
        yield instance("aten.slice.Tensor", x, 1, start, end, step)
        yield instance(
            "aten.slice_backward.default", real(*cut.shape), list(x.shape), 1, start, end, step
        )
        yield instance("aten.slice_scatter.default", x, real(*cut.shape), 1, start, end, step)
    yield instance("aten.slice.Tensor", x)
    yield instance("aten.narrow.default", x, 1, 4, 4)
    yield instance("aten.select.int", x, 1, -2)
    yield instance("aten.select_backward.default", real(4, 3), [4, 12, 3], 1, 5)
    yield instance("aten.select_scatter.default", x, real(4, 3), 1, 5)
    yield instance("aten.unbind.int", x, -1)
    yield instance("aten.stack.default", [real(4, 6), real(4, 6), real(4, 6)], 1)
    yield instance("aten.split.Tensor", x, 4, 1)
    yield instance("aten.split.Tensor", x, 5, -2)
    yield instance("aten.split_with_sizes.default", x, [6, 6], 1)
    yield instance("aten.split_with_sizes.default", x, [8, 4], 1)
    yield instance("aten.chunk.default", x, 3, 1)
    for dim in (1, -2):
        yield instance("aten.glu.default", x, dim)
        yield instance("aten.glu_backward.default", real(4, 6, 3), x, dim)
    yield instance("aten.cat.default", [real(4, 6), real(4, 6)], -1)
    yield instance("aten.cat.default", [real(4, 6), real(4, 3)], 1)
    yield instance("aten.cat.default", [real(4, 1), real(4, 6)], 1)


def reductions() -> Iterator[Instance]:
    x = real(4, 1, 6, 3)
    yield instance("aten.sum.default", x)
    for dims in ([0], [-1, 2], [1], []):
        for keepdim in (False, True):
            yield instance("aten.sum.dim_IntList", x, dims, keepdim)
            yield instance("aten.amax.default", x, dims, keepdim)
            yield instance("aten.amin.default", x, dims, keepdim)
    yield instance("aten.sum.dim_IntList", x, None, True)
    yield instance("aten.max.default", x)
    yield instance("aten.max.dim", x, 2)
    yield instance("aten.mean.dim", x, [2], True)
    yield instance("aten.mean.default", x)
    yield instance("aten.prod.dim_int", x, 2)
    yield instance("aten.any.dim", truth(4, 6), 1)
    yield instance("aten.all.default", truth(4, 6))
    yield instance("aten.argmax.default", x, 2, True)
    yield instance("aten.argmax.default", x)
    yield instance("aten.logsumexp.default", x, [2])
    yield instance("aten.var.correction", x, [2], correction=1)
    yield instance("aten.var_mean.correction", x, [2], correction=0, keepdim=True)
    yield instance("aten.linalg_vector_norm.default", x, float("inf"), [0])
    yield instance("aten.linalg_vector_norm.default", x, 3)
    yield instance("aten.histc.default", real(24), 4, -2, 2)
    yield instance("aten.count_nonzero.dim_IntList", truth(4, 6), [1])
    yield instance("aten.mse_loss.default", real(4, 6), real(4, 6), 2)
    yield instance("aten.mse_loss.default", real(4, 6), real(4, 6), 0)
    yield instance("aten.mse_loss.default", real(4, 6), real(4, 6))


def scans() -> Iterator[Instance]:
    x = real(4, 6, 3)
    for name in ("cumsum", "cumprod", "logcumsumexp", "sort", "argsort", "cummax"):
        yield instance(f"aten.{name}.default", x, 1)
    yield instance("aten.sort.stable", x, stable=True, dim=1)
    yield instance("aten.topk.default", x, 2, 1)
    yield instance("aten.topk.default", x, 6, 1)
    yield instance("aten._softmax.default", x, 1, False)
    yield instance("aten._softmax_backward_data.default", x, real(4, 6, 3), 1, torch.float64)
    yield instance("aten.flip.default", x, [1])
    yield instance("aten.roll.default", x, [1, -2], [0, 1])
    yield instance("aten.roll.default", x, [5])
    yield instance("aten.tril.default", x, 1)
    yield instance("aten.triu.default", x)
    yield instance("aten.searchsorted.Tensor", real(4, 6).sort()[0], real(4, 3))
    yield instance("aten.searchsorted.Tensor", real(6).sort()[0], real(4, 3))


def matmul() -> Iterator[Instance]:
    yield instance("aten.mm.default", real(4, 6), real(6, 8))
    yield instance("aten.mm.default", real(4, 1), real(1, 8))
    yield instance("aten.bmm.default", real(3, 4, 6), real(3, 6, 8))
    yield instance("aten.mv.default", real(4, 6), real(6))
    yield instance("aten.dot.default", real(6), real(6))
    yield instance("aten.addmm.default", real(8), real(4, 6), real(6, 8))
    yield instance("aten.baddbmm.default", real(3, 1, 8), real(3, 4, 6), real(3, 6, 8))
    yield instance("aten.linear.default", real(3, 4, 6), real(8, 6))
    yield instance("aten.linear.default", real(3, 4, 6), real(8, 6), real(8))


def grouped() -> Iterator[Instance]:
    for ends in ([3, 3, 8, 10], [0, 0, 6, 12]):
        bounds = torch.tensor(ends)
        yield instance("superscaler.grouped_mm.default", real(12, 6), real(4, 6, 3), bounds)
        yield instance("superscaler.grouped_mm.default", real(6, 12), real(12, 3), bounds)


def norms() -> Iterator[Instance]:
    x, w, b = real(4, 3, 6), real(6), real(6)
    _, mean, rstd = torch.ops.aten.native_layer_norm(x, [6], w, b, 1e-5)
    yield instance("aten.native_layer_norm.default", x, [6], w, b, 1e-5)
    yield instance("aten.native_layer_norm.default", x, [3, 6], None, None, 1e-5)
    yield instance("aten.native_layer_norm_backward.default",
                   real(4, 3, 6), x, [6], mean, rstd, w, b, [True, True, True])  # fmt: skip
    yield instance("aten.native_layer_norm_backward.default",
                   real(4, 3, 6), x, [6], mean, rstd, w, b, [True, False, False])  # fmt: skip
    yield instance("aten._fused_rms_norm.default", x, [6], w, 1e-5)
    for shape, groups in (((4, 6, 2, 2), 3), ((4, 6, 5), 6), ((4, 6), 6), ((4, 6), 1)):
        y, w, b = real(*shape), real(6), real(6)
        sizes = (4, 6, y[0, 0].numel(), groups)
        _, mean, rstd = torch.ops.aten.native_group_norm(y, w, b, *sizes, 1e-5)
        yield instance("aten.native_group_norm.default", y, w, b, *sizes, 1e-5)
        yield instance("aten.native_group_norm_backward.default",
                       real(*shape), y, mean, rstd, w, *sizes, [True, True, True])  # fmt: skip
    stats = (real(6), real(6).abs())
    yield instance("aten._native_batch_norm_legit_no_training.default",
                   real(4, 6, 2, 2), real(6), real(6), *stats, 0.1, 1e-5)  # fmt: skip
    yield instance("aten._native_batch_norm_legit_functional.default",
                   real(4, 6, 2, 2), real(6), real(6), *stats, True, 0.1, 1e-5)  # fmt: skip

    v, g = real(4, 6, 3), real(1, 1, 3)
    _, norm = torch.ops.aten._weight_norm_interface(v, g, 2)
    yield instance("aten._weight_norm_interface.default", real(4, 6), real(4, 1))
    yield instance("aten._weight_norm_interface_backward.default", real(4, 6, 3), v, g, norm, 2)


def convolution() -> Iterator[Instance]:
    for x, weight, bias, settings in (
        ((4, 6, 8, 5), (8, 6, 3, 3), False, ([1, 1], [1, 1], [1, 1], False, [0, 0], 1)),
        ((4, 6, 8, 5), (8, 6, 3, 3), True, ([2, 2], [1, 1], [1, 1], False, [0, 0], 1)),
        ((4, 6, 8, 5), (9, 2, 3, 3), True, ([1, 1], [1, 1], [1, 1], False, [0, 0], 3)),
        ((4, 6, 8, 5), (6, 1, 3, 3), False, ([1, 1], [1, 1], [1, 1], False, [0, 0], 6)),
        ((4, 6, 8), (4, 6, 3), True, ([2], [1], [1], False, [0], 1)),
        ((4, 6, 8), (4, 6, 1), False, ([1], [0], [1], False, [0], 1)),
        ((4, 6, 8), (6, 4, 2), True, ([2], [0], [1], True, [0], 1)),
        ((4, 6, 8), (6, 2, 2), False, ([2], [0], [1], True, [0], 2)),
    ):  # fmt: skip
        forward = instance("aten.convolution.default", real(*x), real(*weight),
                           real(_features(weight, settings)) if bias else None,
                           *settings)  # fmt: skip
        yield forward
        if len(x) == len(weight):
            grad = real(*forward.run()[0].shape)
            sizes = [_features(weight, settings)] if bias else None
            yield instance("aten.convolution_backward.default", grad, real(*x), real(*weight),
                           sizes, *settings, [True, True, bias])  # fmt: skip
    yield instance("aten.im2col.default", real(4, 6, 8, 5), [2, 3], [1, 1], [0, 1], [2, 1])
    yield instance("aten.col2im.default", real(4, 36, 35), [8, 5], [2, 3], [1, 1], [0, 1], [1, 1])


def _features(weight: tuple[int, ...], settings: tuple[object, ...]) -> int:
    _, _, _, transposed, _, groups = settings
    assert isinstance(groups, int)
    return weight[1] * groups if transposed else weight[0]


def spatial() -> Iterator[Instance]:
    x = real(4, 6, 8, 5)
    pool = ([3, 3], [2, 2], [1, 1])
    out, indices = torch.ops.aten.max_pool2d_with_indices(x, *pool)
    yield instance("aten.max_pool2d_with_indices.default", x, *pool)
    yield instance("aten.max_pool2d_with_indices_backward.default",
                   real(*out.shape), x, *pool, [1, 1], False, indices)  # fmt: skip
    yield instance("aten.avg_pool2d.default", x, *pool)
    yield instance("aten.avg_pool2d_backward.default",
                   real(*out.shape), x, *pool, False, True, None)  # fmt: skip
    yield instance("aten._adaptive_avg_pool2d.default", x, [2, 2])
    yield instance("aten._adaptive_avg_pool2d_backward.default", real(4, 6, 2, 2), x)
    yield instance("aten.upsample_bilinear2d.default", x, [16, 10], False)
    yield instance("aten.upsample_bilinear2d_backward.default",
                   real(4, 6, 16, 10), [16, 10], [4, 6, 8, 5], False)  # fmt: skip
    yield instance("aten.upsample_nearest2d.vec", x, None, [2.0, 2.0])
    yield instance("aten.constant_pad_nd.default", x, [0, 0, 1, 2], 0.0)
    yield instance("aten.constant_pad_nd.default", x, [-1, 2], 1.0)
    yield instance("aten.unfold.default", x, 2, 3, 2)
    yield instance("aten.unfold_backward.default", real(4, 6, 3, 5, 3), [4, 6, 8, 5], 2, 3, 2)
    yield instance("aten.repeat.default", real(4, 1, 6), [2, 3, 5, 1])
    yield instance("aten.pixel_shuffle.default", real(4, 12, 4, 6), 2)
    yield instance("aten.pixel_unshuffle.default", real(4, 3, 4, 6), 2)


def indexing() -> Iterator[Instance]:
    table = real(12, 6)
    yield instance("aten.embedding.default", table, whole(12, 4, 8))
    yield instance("aten.embedding.default", table, whole(12, 4, 8), 3)
    for padding in (-1, 3):
        yield instance("aten.embedding_dense_backward.default",
                       real(4, 8, 6), whole(12, 4, 8), 12, padding, False)  # fmt: skip
    yield instance("aten.embedding_dense_backward.default",
                   real(4, 8, 6), whole(12, 4, 8), 12, -1, True)  # fmt: skip
    x = real(4, 12, 6)
    yield instance("aten.index_select.default", x, 1, whole(12, 8))
    yield instance("aten.gather.default", x, 1, whole(12, 4, 8, 6))
    yield instance("aten.gather.default", x, -1, whole(6, 4, 12, 1))
    yield instance("aten.gather.default", x, 1, whole(12, 2, 8, 3))
    places = torch.argsort(real(4, 12, 6), dim=1)[:, :8]
    yield instance("aten.scatter.src", x, 1, places, real(4, 8, 6))
    yield instance("aten.scatter.value", x, 1, places, 1.5)
    yield instance("aten.scatter.value", real(4, 6), 1, whole(6, 4, 1), 0)
    yield instance("aten.scatter_add.default", x, 1, whole(12, 4, 8, 6), real(4, 8, 6))
    yield instance("aten.scatter_add.default", x, 1, whole(12, 3, 8, 6), real(4, 9, 6))
    yield instance("aten.index_add.default", x, 1, whole(12, 8), real(4, 8, 6))
    yield instance("aten.scatter_reduce.two", x, 1, places, real(4, 8, 6), "amax")
    for indices in (
        [whole(4, 5, low=-4)],
        [None, whole(12, 5, 2)],
        [None, whole(12, 5, 1), whole(6, 3)],
        [whole(4, 5), None, whole(6, 5)],
        [whole(4, 5, 1, 1), whole(12, 3)],
        [whole(4, 5), whole(12, 5), whole(6, 5)],
        [None, None, whole(6)],
    ):
        yield instance("aten.index.Tensor", x, indices)
        values = real(*torch.ops.aten.index(x, indices).shape)
        yield instance("aten.index_put.default", x, indices, values, True)
        yield instance("aten.index_put.default", x, indices, real(1), True)
    row = torch.randperm(12, generator=_GENERATOR)[:8]
    yield instance("aten.index_put.default", x, [None, row], real(4, 8, 6))
    yield instance("aten.index_put.default", x, [None, row], real(6))
    yield instance("aten.index_put.default", x, [truth(4, 12)], real())


def factories() -> Iterator[Instance]:
    yield instance("aten.full.default", [4, 1, 6], 2.5)
    yield instance("aten.zeros.default", [4, 6], dtype=torch.int64)
    yield instance("aten.full_like.default", real(4, 6), 2.5)
    yield instance("aten.zeros_like.default", real(4, 6))
    yield instance("aten.new_zeros.default", real(4, 6), [3, 8])
    yield instance("aten.new_full.default", real(4), [3, 8], 1.0)
    yield instance("aten.arange.default", 12)
    yield instance("aten.arange.start", 3, 9)
    yield instance("aten.arange.start_step", 3, 21, 2, dtype=torch.float64)
    yield instance("aten.arange.start_step", 1.0, 0.0, -0.125, dtype=torch.float64)
    yield instance("aten.eye.default", 4)
    yield instance("aten.scalar_tensor.default", 2.0)


def randomness() -> Iterator[Instance]:
    yield instance("superscaler.dropout.default", real(4, 3, 6), 0.4, 7, [])
    yield instance("superscaler.dropout.default", real(12), 0.4, 7, [])
    yield instance("superscaler.uniform.default", [4, 6], 7, [], dtype=torch.float64)


def attention() -> Iterator[Instance]:
    for heads, kv_heads in ((6, 6), (6, 2), (4, 1)):
        q, k, v = real(2, heads, 8, 4), real(2, kv_heads, 6, 4), real(2, kv_heads, 6, 4)
        for mask in (None, real(8, 6), real(2, 1, 8, 6), real(1, heads, 1, 6), truth(2, 1, 8, 6)):
            for causal in (False, True):
                for dropout in (0.0, 0.3):
                    yield from _attention(q, k, v, mask, dropout, causal)
    yield from _attention(real(6, 8, 4), real(6, 5, 4), real(6, 5, 3), real(8, 5), 0.0, True)
    yield from _attention(real(2, 6, 8, 4), real(1, 6, 5, 4), real(1, 6, 5, 3), None, 0.2, True)


def _attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: torch.Tensor | None,
    dropout: float,
    causal: bool,
) -> Iterator[Instance]:
    settings = (dropout, causal, 0.5, 3)
    forward = instance("superscaler.attention.default", q, k, v, mask, *settings)
    yield forward
    out, logsumexp = forward.run()
    blocks = ([], 0, 0, k.shape[-2])
    block = instance("superscaler.attention_block.default", q, k, v, mask, *settings, *blocks)
    yield block
    yield instance("superscaler.attention_merged.default", *block.run(), torch.float64)
    operands = (real(*out.shape), q, k, v, mask, out, logsumexp)
    yield instance("superscaler.attention_backward.default", *operands, *settings)
    yield instance("superscaler.attention_backward.default", *operands, *settings, *blocks)
    if mask is not None and mask.is_floating_point():
        operator = "superscaler.attention_backward_mask.default"
        yield instance(operator, *operands, *settings)
        yield instance(operator, *operands, *settings, *blocks)


FAMILIES = {
    function.__name__: function
    for function in (
        elementwise,
        views,
        slices,
        reductions,
        scans,
        matmul,
        grouped,
        norms,
        convolution,
        spatial,
        indexing,
        factories,
        randomness,
        attention,
    )
}

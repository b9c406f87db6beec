"""Calls that particular layers make, `EmbeddingBag` or rotary embeddings say, on small tensors."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from instances import real, whole
from parts import Instance, instance


def bilinear() -> Iterator[Instance]:
    """What `nn.Bilinear` and its backward call."""
    x, weight, y, grad = real(12, 6), real(8, 6, 5), real(12, 5), real(12, 8)
    for operands, *dims in (
        ((x, weight, y), [1, 3], [0], [1, 2], [2, 3]),
        ((grad, weight, y), [2, 3], [0], [1, 2], [1, 3]),
        ((x, grad, y), [1, 3], [2, 3], [1, 2], [0]),
        ((x, weight, grad), [1, 3], [0], [2, 3], [1, 2]),
    ):
        yield instance("aten._trilinear.default", *operands, *dims)


def distances() -> Iterator[Instance]:
    x, y = real(4, 1, 6, 5), real(3, 8, 5)
    yield instance("aten._euclidean_dist.default", x, real(4, 1, 8, 5))
    for p in (0.0, 1.0, 2.0, 3.0, float("inf")):
        yield instance("aten._cdist_forward.default", x, y, p, None)
        dist = torch.ops.aten._cdist_forward(x, y, p, None)
        grad = real(*dist.shape)
        yield instance("aten._cdist_backward.default", grad, x, y, p, dist)


def sampling() -> Iterator[Instance]:
    for image, places, name in (((6, 5), (4, 3), "2d"), ((6, 5, 4), (4, 3, 2), "3d")):
        x, grid = real(4, 6, *image), real(4, *places, len(places))
        yield instance(f"aten.grid_sampler_{name}.default", x, grid, 0, 0, False)
        for mask in ([True, True], [False, True]):
            yield instance(f"aten.grid_sampler_{name}_backward.default",
                           real(4, 6, *places), x, grid, 0, 0, False, mask)  # fmt: skip
        yield instance("aten.affine_grid_generator.default",
                       real(4, len(places), len(places) + 1), [4, 6, *places], False)  # fmt: skip


def bags() -> Iterator[Instance]:
    """Bags of a flat list of rows, as a sum, a mean and a maximum."""
    table = real(12, 6)
    indices, offsets = whole(12, 10), torch.tensor([0, 3, 3, 7])
    for mode, weights in ((0, None), (0, real(10)), (1, None), (2, None)):
        settings = (False, mode, False, weights)
        yield instance("aten._embedding_bag.default", table, indices, offsets, *settings)
        made = torch.ops.aten._embedding_bag(table, indices, offsets, *settings)
        yield instance("aten._embedding_bag_backward.default", real(4, 6), indices, offsets,
                       *made[1:], 12, *settings)  # fmt: skip
    yield instance("aten._embedding_bag_per_sample_weights_backward.default",
                   real(4, 6), table, indices, offsets, made[1], 0)  # fmt: skip


def pairs(*shape: int) -> torch.Tensor:
    """Complex numbers."""
    return torch.complex(real(*shape), real(*shape))


def complex_numbers() -> Iterator[Instance]:
    x, y = pairs(4, 6), pairs(4, 6)
    for name in ("_conj_physical", "abs", "angle", "neg", "sgn", "exp", "reciprocal"):
        yield instance(f"aten.{name}.default", x)
    for name in ("add", "sub", "mul", "div"):
        yield instance(f"aten.{name}.Tensor", x, y)
        yield instance(f"aten.{name}.Tensor", x, real(6))
    yield instance("aten.complex.default", real(4, 6), real(6))
    yield instance("aten.polar.default", real(4, 6), real(4, 6))
    yield instance("aten.mm.default", x, pairs(6, 3))
    yield instance("aten.sum.dim_IntList", x, [1])
    yield instance("aten.full.default", [4, 6], 1 + 2j)
    yield instance("aten._to_copy.default", real(4, 6), dtype=torch.complex128)
    yield instance("aten.constant_pad_nd.default", x, [0, 2], 0.0)


def transforms() -> Iterator[Instance]:
    """Fourier transforms along some dims; of real numbers half of the frequencies."""
    for dims in ([1], [2, 1]):
        yield instance("aten._fft_c2c.default", pairs(4, 6, 5), dims, 0, True)
        yield instance("aten._fft_r2c.default", real(4, 6, 5), dims, 1, True)
        yield instance("aten._fft_r2c.default", real(4, 6, 5), dims, 1, False)
    yield instance("aten._fft_c2r.default", pairs(4, 4, 5), [1], 2, 6)
    yield instance("aten._fft_c2r.default", pairs(4, 6, 3), [1, 2], 2, 5)


def linear_algebra() -> Iterator[Instance]:
    x = real(4, 3, 5, 5) + 3 * torch.eye(5)
    for name in ("_linalg_det", "_linalg_slogdet", "linalg_inv_ex", "linalg_lu_factor_ex"):
        yield instance(f"aten.{name}.default", x)
    for name in ("linalg_eig", "linalg_qr", "_linalg_svd", "linalg_matrix_exp"):
        yield instance(f"aten.{name}.default", x)
    yield instance("aten._linalg_eigh.default", x + x.mT)
    yield instance("aten.linalg_cholesky_ex.default", x @ x.mT)
    yield instance("aten._linalg_solve_ex.default", x, real(4, 3, 5, 2))
    yield instance("aten._linalg_solve_ex.default", x[:, 0], real(4, 5))
    yield instance("aten._linalg_solve_ex.default", x[0, 0], real(5))
    yield instance("aten._linalg_solve_ex.default", real(5, 5, 5), real(5, 2))  # one for all
    yield instance("aten.linalg_solve_triangular.default", x, real(4, 3, 5, 2), upper=True)
    lu, pivots, _ = torch.ops.aten.linalg_lu_factor_ex(x)
    yield instance("aten.linalg_lu_solve.default", lu, pivots, real(4, 3, 5, 2))


LAYERS = {
    function.__name__: function
    for function in (
        bilinear,
        distances,
        sampling,
        bags,
        complex_numbers,
        transforms,
        linear_algebra,
    )
}

"""Rules of pooling, resampling and padding of images: leading dims parallel, positions frozen."""

from __future__ import annotations

from superscaler.graph.rule import Call, Dims, Local, LocalFunction, Operands, Rule, RuleFunction
from superscaler.ops.build import LINEAR_IN_FIRST, RuleBuilder, argument, with_args
from superscaler.ops.registry import RULES, rule


def spatial(
    op: Operands,
    positions: int,
    linear: tuple[frozenset[int], ...],
    local: LocalFunction | None = None,
) -> Rule:
    """All operands end in `positions` dims that are frozen, each its own where sizes differ."""
    build = RuleBuilder()
    shape = op.inputs[0]
    lead = build.dims("d", shape[: len(shape) - positions])

    def operand(other: tuple[int, ...]) -> tuple[tuple[str, ...], ...]:
        tail = other[len(lead) :]
        return (*lead, *(build.axis(f"p{d}_{n}", n, frozen=True) for d, n in enumerate(tail)))

    inputs = [operand(s) for s in op.inputs]
    return build.rule(inputs, [operand(s) for s in op.outputs], linear=linear, local=local)


def _spatial(positions: int, is_linear: bool, sizes_at: int | None = None) -> RuleFunction:
    def local(call: Call, part: Local) -> Call:
        assert sizes_at is not None
        return with_args(call, {sizes_at: list(part.output_shape(0))})

    def function(op: Operands) -> Rule:
        linear = LINEAR_IN_FIRST if is_linear else ()
        return spatial(op, positions, linear, local if sizes_at is not None else None)

    return function


for _n, _d in ((1, "1d"), (2, "2d"), (3, "3d")):
    for _name in ("avg_pool", "_adaptive_avg_pool", "reflection_pad", "replication_pad"):
        RULES[f"aten.{_name}{_d}.default"] = _spatial(_n, True)
        RULES[f"aten.{_name}{_d}_backward.default"] = _spatial(_n, True)
    RULES[f"aten.adaptive_avg_pool{_d}.default"] = _spatial(_n, True)
    for _name in ("max_pool", "adaptive_max_pool"):
        RULES[f"aten.{_name}{_d}.default"] = _spatial(_n, False)
        RULES[f"aten.{_name}{_d}_with_indices.default"] = _spatial(_n, False)
        RULES[f"aten.{_name}{_d}_backward.default"] = _spatial(_n, True)
        RULES[f"aten.{_name}{_d}_with_indices_backward.default"] = _spatial(_n, True)

for _name, _n in (
    ("upsample_nearest1d", 1),
    ("_upsample_nearest_exact1d", 1),
    ("upsample_linear1d", 1),
    ("upsample_nearest2d", 2),
    ("_upsample_nearest_exact2d", 2),
    ("upsample_bilinear2d", 2),
    ("_upsample_bilinear2d_aa", 2),
    ("upsample_bicubic2d", 2),
    ("_upsample_bicubic2d_aa", 2),
    ("upsample_nearest3d", 3),
    ("_upsample_nearest_exact3d", 3),
    ("upsample_trilinear3d", 3),
):
    RULES[f"aten.{_name}.default"] = _spatial(_n, True)
    RULES[f"aten.{_name}.vec"] = _spatial(_n, True)
    RULES[f"aten.{_name}_backward.default"] = _spatial(_n, True, sizes_at=2)


@rule("aten.constant_pad_nd.default", "aten.pad.default")
def pad(op: Operands) -> Rule:
    """Dims that are padded are frozen; `pad` counts them from the last."""
    shape, out = op.inputs[0], op.outputs[0]
    build = RuleBuilder()
    widths = op.args[1]
    first = len(shape) - len(widths) // 2
    is_padded = [d >= first and any(_widths(widths, len(shape) - 1 - d)) for d in range(len(shape))]
    inside = tuple(
        build.axis(f"d{d}", n, frozen=padded) for d, (n, padded) in enumerate(zip(shape, is_padded))
    )
    outside = tuple(
        build.axis(f"o{d}", n, frozen=True) if padded else inside[d]
        for d, (n, padded) in enumerate(zip(out, is_padded))
    )
    is_zero = op.target.startswith("aten.constant") and not argument(op, 2, "value", 0)
    return build.rule((inside,), (outside,), linear=LINEAR_IN_FIRST if is_zero else ())


def _widths(widths: list[int], from_last: int) -> list[int]:
    return widths[2 * from_last : 2 * from_last + 2]


@rule("aten.unfold.default", "aten.unfold_copy.default")
def unfold(op: Operands) -> Rule:
    """Windows along a dim: that dim, and the windows, are frozen."""
    build = RuleBuilder()
    shape, out = op.inputs[0], op.outputs[0]
    dim = op.args[1] % len(shape)
    inside = tuple(build.axis(f"d{d}", n, frozen=d == dim) for d, n in enumerate(shape))
    window = build.axis("window", out[-1], frozen=True)
    count = build.axis("count", out[dim], frozen=True)
    outside = (*inside[:dim], count, *inside[dim + 1 :], window)
    return build.rule((inside,), (outside,), linear=LINEAR_IN_FIRST, is_view=True)


@rule("aten.unfold_backward.default")
def unfold_backward(op: Operands) -> Rule:
    build = RuleBuilder()
    grad, shape = op.inputs[0], op.outputs[0]
    dim = op.args[2] % len(shape)
    outside = tuple(build.axis(f"d{d}", n, frozen=d == dim) for d, n in enumerate(shape))
    window = build.axis("window", grad[-1], frozen=True)
    count = build.axis("count", grad[dim], frozen=True)
    inside = (*outside[:dim], count, *outside[dim + 1 :], window)

    def local(call: Call, part: Local) -> Call:
        return with_args(call, {1: list(part.output_shape(0))})

    return build.rule((inside,), (outside,), linear=LINEAR_IN_FIRST, local=local)


@rule("aten.repeat.default")
def repeat(op: Operands) -> Rule:
    """Every dim is (times, elements): a part repeats its elements its number of times."""
    shape, times = op.inputs[0], op.args[1]
    build = RuleBuilder()
    inside = build.dims("d", shape)
    added = len(times) - len(shape)
    outside = tuple(
        (*build.axis(f"times{d}", n), *(inside[d - added] if d >= added else ()))
        for d, n in enumerate(times)
    )

    def local(call: Call, part: Local) -> Call:
        return with_args(call, {1: [part.size(f"times{d}") for d in range(len(times))]})

    return build.rule((inside,), (outside,), linear=LINEAR_IN_FIRST, local=local)


@rule("aten.grid_sampler_2d.default", "aten.grid_sampler_3d.default")
def grid_sampler(op: Operands) -> Rule:
    """Samples, channels and the places looked up are parallel, pixels frozen."""
    build = RuleBuilder()
    image, grid, result = _sampled(build, op.inputs[0], op.inputs[1])
    return build.rule((image, grid), (result,), linear=LINEAR_IN_FIRST)


@rule("aten.grid_sampler_2d_backward.default", "aten.grid_sampler_3d_backward.default")
def grid_sampler_backward(op: Operands) -> Rule:
    """Gradients: of the image a sum over places, of the grid one over channels."""
    build = RuleBuilder()
    image, grid, result = _sampled(build, op.inputs[1], op.inputs[2], reduce="sum")
    outside = [
        dims if is_wanted else ((),) * len(shape)
        for dims, is_wanted, shape in zip((image, grid), op.args[6], op.outputs)
    ]
    return build.rule((result, image, grid), outside, linear=LINEAR_IN_FIRST)


def _sampled(
    build: RuleBuilder, image: tuple[int, ...], grid: tuple[int, ...], reduce: str | None = None
) -> tuple[Dims, Dims, Dims]:
    """The dims of an image, of the grid of its places, and of the pixels looked up there."""
    n, c = build.axis("n", image[0]), build.axis("c", image[1], reduce=reduce)
    pixels = build.dims("p", image[2:], frozen=True)
    places = build.dims("q", grid[1:-1], reduce=reduce)
    coordinates = build.axis("xy", grid[-1], frozen=True)
    return (n, c, *pixels), (n, *places, coordinates), (n, c, *places)


@rule("aten.affine_grid_generator.default")
def affine_grid(op: Operands) -> Rule:
    """The places that a matrix for each sample moves the pixels' to."""
    build = RuleBuilder()
    batch, *matrix = op.inputs[0]
    n = build.axis("n", batch)
    rows, columns = build.dims("m", matrix, frozen=True)
    places = build.dims("q", op.outputs[0][1:-1], frozen=True)

    def local(call: Call, part: Local) -> Call:
        return with_args(call, {1: [part.size("n"), *call.args[1][1:]]})

    return build.rule(
        ((n, rows, columns),), ((n, *places, rows),), linear=LINEAR_IN_FIRST, local=local
    )


@rule("aten.pixel_shuffle.default", "aten.pixel_unshuffle.default")
def pixel_shuffle(op: Operands) -> Rule:
    """(c, r, r) x h x w and c x (h, r) x (w, r)."""
    factor = op.args[1]
    is_shuffle = op.target == "aten.pixel_shuffle.default"
    fine = op.outputs[0] if is_shuffle else op.inputs[0]
    build = RuleBuilder()
    lead = build.dims("d", fine[:-3])
    c = build.axis("c", fine[-3])
    h, w = build.axis("h", fine[-2] // factor), build.axis("w", fine[-1] // factor)
    r, s = build.axis("r", factor, frozen=True), build.axis("s", factor, frozen=True)
    channels, pixels = (*lead, (*c, *r, *s), h, w), (*lead, c, (*h, *r), (*w, *s))
    first, last = (channels, pixels) if is_shuffle else (pixels, channels)
    return build.rule((first,), (last,), linear=LINEAR_IN_FIRST, is_view=True)

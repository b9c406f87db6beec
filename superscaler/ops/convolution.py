"""Rules of convolutions: batch, groups and output channels are parallel, input channels a sum."""

from __future__ import annotations

from dataclasses import dataclass

from superscaler.graph.rule import Call, Dims, Local, Operands, Rule
from superscaler.ops.build import LINEAR_IN_FIRST, RuleBuilder, with_args
from superscaler.ops.registry import rule

Names = tuple[str, ...]


@dataclass(frozen=True)
class _Roles:
    """The dims of the tensors of a convolution."""

    x: Dims
    weight: Dims
    bias: Dims
    out: Dims


def _roles(
    build: RuleBuilder,
    x: tuple[int, ...],
    weight: tuple[int, ...],
    out: tuple[int, ...],
    args: tuple[object, ...],
    reduces: dict[str, str],
    freeze_inputs: bool = False,
) -> _Roles:
    """`args` are stride, padding, dilation, transposed, output padding and groups.

    Channels are (group, channel) products: x has (g, c), the output (g, o); `weight` has (g, o)
    by c, or (g, c) by o where the convolution is transposed.
    """
    stride, padding, _, transposed, _, groups = args
    assert isinstance(groups, int)
    channels, features = x[-len(weight) + 1], out[-len(weight) + 1]
    n: list[Names] = []
    if len(x) == len(weight):
        n = [build.axis("n", x[0], reduce=reduces.get("n"))]
    g = build.axis("g", groups)
    o = build.axis("o", features // groups, reduce=reduces.get("o"))
    c = build.axis("c", channels // groups, reduce=reduces.get("c"), frozen=freeze_inputs)
    kernel = weight[2:]
    is_pointwise = not transposed and set(kernel) == {1} and _all(stride, 1) and _all(padding, 0)
    inside = tuple(
        build.axis(f"p{d}", size, reduce=reduces.get("p"), frozen=not is_pointwise)
        for d, size in enumerate(x[len(n) + 1 :])
    )
    outside = inside if is_pointwise else build.dims("q", out[len(n) + 1 :], frozen=True)
    window = build.dims("w", kernel, frozen=True)
    pair: Dims = ((*g, *c), o) if transposed else ((*g, *o), c)
    return _Roles((*n, (*g, *c), *inside), (*pair, *window), ((*g, *o),), (*n, (*g, *o), *outside))


def _all(values: object, value: int) -> bool:
    return set(values) == {value} if isinstance(values, (list, tuple)) else values == value


@rule("aten.convolution.default")
def convolution(op: Operands) -> Rule:
    """With a bias the input channels are frozen, or every part would add it."""
    build = RuleBuilder()
    has_bias = len(op.inputs) > 2
    roles = _roles(
        build, op.inputs[0], op.inputs[1], op.outputs[0], op.args[3:9], {"c": "sum"}, has_bias
    )

    def local(call: Call, part: Local) -> Call:
        return with_args(call, {8: part.size("g")})

    if has_bias:
        linear = (frozenset({0, 2}), frozenset({1, 2}))
        inputs = [roles.x, roles.weight, roles.bias]
        return build.rule(inputs, (roles.out,), linear=linear, local=local)
    linear = (frozenset({0}), frozenset({1}))
    return build.rule([roles.x, roles.weight], (roles.out,), linear=linear, local=local)


@rule("aten.convolution_backward.default")
def convolution_backward(op: Operands) -> Rule:
    """Gradients: of the input a sum over output channels, of weight and bias over the batch."""
    build = RuleBuilder()
    grad, x, weight = op.inputs[:3]
    reduces = {"n": "sum", "o": "sum", "p": "sum"}
    roles = _roles(build, x, weight, grad, op.args[4:10], reduces)
    bias_sizes, mask = op.args[3], op.args[10]
    gradients = (roles.x, roles.weight, roles.bias)
    wanted = [dims for dims, is_wanted in zip(gradients, mask) if is_wanted]
    if len(op.outputs) == len(mask):
        wanted = [
            dims if is_wanted else tuple(() for _ in shape or ())
            for dims, is_wanted, shape in zip(gradients, mask, op.outputs)
        ]

    def local(call: Call, part: Local) -> Call:
        sizes = [part.size("g") * part.size("o")] if bias_sizes else bias_sizes
        return with_args(call, {3: sizes, 9: part.size("g")})

    return build.rule(
        (roles.out, roles.x, roles.weight), wanted, linear=LINEAR_IN_FIRST, local=local
    )


@rule("aten.im2col.default", "aten.col2im.default")
def columns(op: Operands) -> Rule:
    """Patches as columns and back: channels are parallel, positions frozen."""
    is_gather = op.target.startswith("aten.im2col")
    kernel = op.args[1] if is_gather else op.args[2]
    image, patches = (op.inputs[0], op.outputs[0]) if is_gather else (op.outputs[0], op.inputs[0])
    build = RuleBuilder()
    lead = [build.axis("n", image[0])] if len(image) == 4 else []
    c = build.axis("c", image[-3])
    window = build.axis("window", kernel[0] * kernel[1], frozen=True)
    inside: Dims = (*lead, c, *build.dims("p", image[-2:], frozen=True))
    outside: Dims = (*lead, (*c, *window), build.axis("patch", patches[-1], frozen=True))
    first, last = (inside, outside) if is_gather else (outside, inside)
    return build.rule((first,), (last,), linear=LINEAR_IN_FIRST)

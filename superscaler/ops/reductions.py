"""Rules of reductions: partial sums and maxima where splitting gives them, else frozen."""

from __future__ import annotations

from superscaler.graph.rule import Dims, Operands, Rule, RuleFunction
from superscaler.ops.build import LINEAR_IN_FIRST, RuleBuilder, argument
from superscaler.ops.registry import RULES, rule


def reduction(
    op: Operands, dim: object, *, reduce: str | None, linear: tuple[frozenset[int], ...] = ()
) -> Rule:
    """A reduction over `dim` (a number, a list, or nothing for all); frozen without `reduce`."""
    shape = op.inputs[0]
    reduced = _dims(dim, len(shape))
    build = RuleBuilder()
    inside: Dims = tuple(
        build.axis(f"d{d}", n, reduce=reduce, frozen=reduce is None)
        if d in reduced
        else build.axis(f"d{d}", n)
        for d, n in enumerate(shape)
    )
    outputs = []
    for out in op.outputs:
        keeps = len(out) == len(shape)
        outputs.append(
            tuple(() if d in reduced else names for d, names in enumerate(inside) if keeps)
            if keeps
            else tuple(names for d, names in enumerate(inside) if d not in reduced)
        )
    return build.rule((inside,), outputs, linear=linear)


def _dims(dim: object, count: int) -> frozenset[int]:
    if dim is None or dim == [] or dim == ():
        return frozenset(range(count))
    if isinstance(dim, int):
        return frozenset({dim % max(count, 1)})
    assert isinstance(dim, (list, tuple))
    return frozenset(d % max(count, 1) for d in dim)


def _reducing(
    position: int | None,
    reduce: str | None = None,
    linear: tuple[frozenset[int], ...] = (),
) -> RuleFunction:
    """The rule of a reduction whose dims are argument `position` (None: all dims)."""

    def function(op: Operands) -> Rule:
        dim = None if position is None else argument(op, position, "dim")
        return reduction(op, dim, reduce=reduce, linear=linear)

    return function


_LINEAR_SUMS = "sum.dim_IntList:1 sum.default nansum.default:1"
_SUMS = "count_nonzero.dim_IntList:1 count_nonzero.default:1"
_MAXIMA = "amax.default:1 max.default"
_LINEAR_FROZEN = "mean.dim:1 mean.default"
_FROZEN = (
    "amin.default:1 min.default max.dim:1 min.dim:1 prod.default prod.dim_int:1 aminmax.default:1 "
    "any.default any.dim:1 any.dims:1 all.default all.dim:1 all.dims:1 logsumexp.default:1 "
    "argmax.default:1 argmin.default:1 var.correction:1 var.dim:1 var.default "
    "var_mean.correction:1 var_mean.dim:1 std.correction:1 std.dim:1 std_mean.correction:1 "
    "median.dim:1 nanmedian.dim:1 mode.default:1 norm.ScalarOpt_dim:2 norm.Scalar "
    "norm.ScalarOpt_dim_dtype:2"
)


def _register(names: str, reduce: str | None, linear: tuple[frozenset[int], ...] = ()) -> None:
    for name in names.split():
        target, _, position = name.partition(":")
        RULES[f"aten.{target}"] = _reducing(int(position) if position else None, reduce, linear)


_register(_LINEAR_SUMS, "sum", LINEAR_IN_FIRST)
_register(_SUMS, "sum")
_register(_MAXIMA, "max")
_register(_LINEAR_FROZEN, None, LINEAR_IN_FIRST)
_register(_FROZEN, None)


@rule("aten.linalg_vector_norm.default")
def vector_norm(op: Operands) -> Rule:
    """Partial maxima for the maximum norm; other norms are frozen in the dims they reduce."""
    is_max = argument(op, 1, "ord", 2) == float("inf")
    return reduction(op, argument(op, 2, "dim"), reduce="max" if is_max else None)


@rule("aten.histc.default")
def histc(op: Operands) -> Rule:
    """Counts add up, if the bins do not depend on the data."""
    is_fixed = argument(op, 2, "min", 0) != argument(op, 3, "max", 0)
    build = RuleBuilder()
    inside = build.dims("d", op.inputs[0], reduce="sum", frozen=not is_fixed)
    return build.rule((inside,), (build.dims("bin", op.outputs[0], frozen=True),))


@rule("aten.bincount.default")
def bincount(op: Operands) -> Rule:
    """Frozen: the number of bins depends on the data."""
    build = RuleBuilder()
    inputs = [build.dims("d", shape, frozen=True) for shape in op.inputs]
    return build.rule(inputs, (build.dims("bin", op.outputs[0], frozen=True),))


@rule("aten.trace.default")
def trace(op: Operands) -> Rule:
    """The sum of a diagonal: both dims are frozen."""
    return reduction(op, None, reduce=None, linear=LINEAR_IN_FIRST)


_SUMMED = 1  # reduction=2 in ATen means "sum", 1 "mean", 0 "none"


def _loss(op: Operands) -> Rule:
    """A loss of two tensors alike: its mean is frozen, since parts do not know the count."""
    mode = argument(op, 2, "reduction", 1)
    build = RuleBuilder()
    dims = build.dims(
        "d", op.inputs[0], reduce="sum" if mode == 2 else None, frozen=mode == _SUMMED
    )
    if any(shape != op.inputs[0] for shape in op.inputs):
        build.freeze(build.axes)
    inputs = [
        dims if s == op.inputs[0] else build.dims(f"i{i}_", s, frozen=True)
        for i, s in enumerate(op.inputs)
    ]
    return build.rule(inputs, (dims if mode == 0 else (),))


for _name in ("mse_loss", "smooth_l1_loss", "huber_loss", "soft_margin_loss"):
    RULES[f"aten.{_name}.default"] = _loss

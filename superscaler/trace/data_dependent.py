"""Steps that depend on the values of tensors: torch's errors about them, explained."""

from __future__ import annotations

from torch._dynamo.exc import UserError
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedOperatorException,
)
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from superscaler.errors import TraceError

# What an `if` on a tensor, .item(), nonzero() and boolean indexing are made of.
_READS = (
    "aten._local_scalar_dense.default",
    "aten.is_nonzero.default",
    "aten.nonzero.default",
    "aten.masked_select.default",
    "aten.equal.default",
)
DATA_DEPENDENT = (
    UserError,
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedOperatorException,
    GuardOnDataDependentSymNode,
)


def data_dependent(line: str, error: BaseException) -> TraceError:
    """The TraceError that names the user's line and a way out."""
    func = getattr(error, "func", None)
    if func is not None and str(func) not in _READS:
        return TraceError(
            f"{line}: the step depends on the values of tensors: {func} computes by them, so a "
            "compiled step cannot have it; leave it out, or make it one operator with "
            "ss.register_op"
        )
    reason = str(error).strip().split("\n")[0][:160]
    return TraceError(
        f"{line}: the step depends on the values of tensors ({reason}); replace if and loops on "
        "tensors, .item(), nonzero() and boolean indexing by torch.where, masks or selections of "
        "a fixed size"
    )

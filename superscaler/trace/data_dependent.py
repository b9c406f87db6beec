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

DATA_DEPENDENT = (
    UserError,
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedOperatorException,
    GuardOnDataDependentSymNode,
)


def data_dependent(line: str, error: BaseException) -> TraceError:
    """The TraceError that names the user's line and a way out."""
    reason = str(error).strip().split("\n")[0][:160]
    return TraceError(
        f"{line}: the step depends on the values of tensors ({reason}); replace if and loops on "
        "tensors, .item(), nonzero() and boolean indexing by torch.where, masks or selections of "
        "a fixed size"
    )

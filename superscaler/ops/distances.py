"""Rules of distances between the rows of two matrices; leading dims are broadcast."""

from __future__ import annotations

from superscaler.graph.rule import Operands, Rule
from superscaler.ops.build import LINEAR_IN_FIRST
from superscaler.ops.registry import RULES, annotated, rule

# How the distances of parts of two rows are put together, where they can be.
_JOINED = {0.0: "+", 1.0: "+", float("inf"): ">"}

RULES["aten._euclidean_dist.default"] = annotated("... p m^, ... r m -> ... p r")


@rule("aten._cdist_forward.default")
def cdist(op: Operands) -> Rule:
    """Sums and maxima are joined from parts of the rows; a root is taken of the whole."""
    mark = _JOINED.get(op.args[2], "^")
    return annotated(f"... p m{mark}, ... r m -> ... p r")(op)


RULES["aten._cdist_backward.default"] = annotated(
    "... p r+, ... p m, ... r m, ... p r -> ... p m", linear=LINEAR_IN_FIRST
)

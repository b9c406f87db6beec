"""Rules of copies between device memory and host memory: element by element."""

from __future__ import annotations

from superscaler.graph.rule import Operands, Rule
from superscaler.ops.elementwise import elementwise
from superscaler.ops.registry import rule

TO_HOST = "superscaler.to_host.default"
TO_DEVICE = "superscaler.to_device.default"
COPIES = (TO_HOST, TO_DEVICE)


@rule(*COPIES)
def copy(op: Operands) -> Rule:
    """Splits pass through; partial values are made whole first."""
    return elementwise(op)

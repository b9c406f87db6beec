"""The rule of an operator: its own, torch's word that it is element-wise, or all frozen."""

from __future__ import annotations

from superscaler.graph.rule import Operands, Rule
from superscaler.ops.elementwise import is_pointwise, plain
from superscaler.ops.registry import RULES, frozen_rule


def rule_for(op: Operands) -> tuple[Rule, bool]:
    """The operator's rule, and whether it has one of its own (False: all frozen)."""
    function = RULES.get(op.target)
    if function is not None:
        return function(op), True
    if is_pointwise(op.target):
        return plain(op), True
    return frozen_rule(op), False

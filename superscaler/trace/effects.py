"""Effects: operators that return nothing and may not be dropped.

Linear algebra's kernels report errors by a value, which another operator checks. Torch 2.13 and
newer keep that operator; 2.11 drops it, as nothing reads it, unless it is told not to. (Private
APIs; tried with torch 2.11, 2.13 and 2.14.)
"""

from __future__ import annotations

import torch
from torch import fx
from torch._library.effects import EffectType
from torch._library.simple_registry import singleton

_CHECK = torch.ops.aten._linalg_check_errors.default
_ENTRY = singleton.find("aten::_linalg_check_errors")

if _ENTRY.effect.effect is None:
    _ENTRY.effect.register(EffectType.ORDERED)


def is_check(node: fx.Node) -> bool:
    """Whether the node, an operator with effects, only raises the error that a kernel of linear
    algebra reports."""
    return node.target is torch.ops.higher_order.with_effects and node.args[1] is _CHECK

"""Shards: the mesh dim that splits updates has to be one."""

from __future__ import annotations

from superscaler.errors import PlanError
from superscaler.plan import Plan


def check_shards(plan: Plan) -> None:
    """Raises PlanError where updates are split on a mesh dim that no stage has."""
    found = sorted({name for stage in plan.stages for name in stage.mesh})
    if plan.optimizer.split and plan.optimizer.split not in found:
        raise PlanError(
            f"optimizer: split {plan.optimizer.split!r}: no stage has such a mesh dim; expected "
            f"one of {', '.join(found) or 'none, as there are none'}"
        )

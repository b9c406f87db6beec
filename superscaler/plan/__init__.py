"""Plan: a parallelization plan as data, from and to YAML."""

from superscaler.plan.plan import (
    FUSED_ORDERS,
    ORDERS,
    PLACEMENTS,
    SPLIT_ORDERS,
    TWO_WAY_ORDERS,
    V_ORDERS,
    Plan,
    PlanAssign,
    PlanOffload,
    PlanOptimizer,
    PlanRewrite,
    PlanSchedule,
    PlanSplit,
    PlanStage,
    is_order,
    unknown_order,
)

__all__ = [
    "FUSED_ORDERS",
    "ORDERS",
    "PLACEMENTS",
    "SPLIT_ORDERS",
    "TWO_WAY_ORDERS",
    "V_ORDERS",
    "Plan",
    "PlanAssign",
    "PlanOffload",
    "PlanOptimizer",
    "PlanRewrite",
    "PlanSchedule",
    "PlanSplit",
    "PlanStage",
    "is_order",
    "unknown_order",
]

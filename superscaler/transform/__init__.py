"""Transformation and assignment: op_trans, op_assign, op_order, and plans applied with them."""

from superscaler.transform.algorithms import register_algorithm
from superscaler.transform.partition import Grid, Partition, Placed
from superscaler.transform.primitives import (
    Offload,
    Recompute,
    Replicate,
    Split,
    op_assign,
    op_order,
    op_trans,
    start,
)
from superscaler.transform.select import select, select_axis

__all__ = [
    "Grid",
    "Offload",
    "Partition",
    "Placed",
    "Recompute",
    "Replicate",
    "Split",
    "op_assign",
    "op_order",
    "op_trans",
    "register_algorithm",
    "select",
    "select_axis",
    "start",
]

"""Axis rules: one file per family of operators; importing this package fills the table."""

from superscaler.graph.rule import Call, Dims, IterationAxis, Local, Operands, Rule
from superscaler.ops import (
    attention,
    convolution,
    copies,
    distances,
    elementwise,
    embedding,
    factories,
    gated,
    gather,
    index,
    linalg,
    matmul,
    norms,
    random,
    reductions,
    scans,
    slices,
    spatial,
    update,
    views,
)
from superscaler.ops.lookup import rule_for
from superscaler.ops.registry import RULES, register_op

FAMILIES = (
    attention,
    convolution,
    copies,
    distances,
    elementwise,
    embedding,
    factories,
    gated,
    gather,
    index,
    linalg,
    matmul,
    norms,
    random,
    reductions,
    scans,
    slices,
    spatial,
    update,
    views,
)

__all__ = [
    "FAMILIES",
    "RULES",
    "Call",
    "Dims",
    "IterationAxis",
    "Local",
    "Operands",
    "Rule",
    "register_op",
    "rule_for",
]

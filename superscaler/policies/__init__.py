"""Named plans as short functions: each returns a Plan that fits any traced model."""

from superscaler.policies.beyond import (
    bidirectional,
    coshard,
    interlaced,
    three_f_one_b,
    vocabulary_parallel,
)
from superscaler.policies.context import context_parallel
from superscaler.policies.offload import offload
from superscaler.policies.parallel import data_parallel, hybrid, megatron, pipeline, zero
from superscaler.policies.parse import as_plan, parse_plan

__all__ = [
    "as_plan",
    "bidirectional",
    "context_parallel",
    "coshard",
    "data_parallel",
    "hybrid",
    "interlaced",
    "megatron",
    "offload",
    "parse_plan",
    "pipeline",
    "three_f_one_b",
    "vocabulary_parallel",
    "zero",
]

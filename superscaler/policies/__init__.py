"""Named plans as short functions: each returns a Plan that fits any traced model."""

from superscaler.policies.offload import offload
from superscaler.policies.parallel import data_parallel, hybrid, megatron, pipeline, zero
from superscaler.policies.parse import parse_plan

__all__ = ["data_parallel", "hybrid", "megatron", "offload", "parse_plan", "pipeline", "zero"]

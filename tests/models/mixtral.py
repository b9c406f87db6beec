"""Mixtral: LLaMA with a mixture of experts, and their load-balancing loss."""

from __future__ import annotations

import torch
from toy import BATCH, HEADS, HIDDEN, LAYERS, SEQ, VOCAB, causal_lm
from transformers import MixtralConfig, MixtralForCausalLM

import superscaler as ss


def mixtral(
    layers: int = LAYERS,
    hidden: int = HIDDEN,
    batch: int = BATCH,
    seq: int = SEQ,
    experts: str | None = None,
    dtype: torch.dtype = torch.float32,
) -> ss.Workload:
    config = MixtralConfig(
        vocab_size=VOCAB,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS // 2,
        num_local_experts=4,
        num_experts_per_tok=2,
        output_router_logits=True,
        max_position_embeddings=seq,
        experts_implementation=experts,
    )
    return causal_lm(MixtralForCausalLM, config, dtype, batch, seq)

"""LLaMA: rotary positions, grouped queries, gated feed-forward, RMS norm."""

from __future__ import annotations

import torch
from toy import BATCH, HEADS, HIDDEN, LAYERS, SEQ, VOCAB, causal_lm
from transformers import LlamaConfig, LlamaForCausalLM

import superscaler as ss


def llama(
    layers: int = LAYERS,
    hidden: int = HIDDEN,
    batch: int = BATCH,
    seq: int = SEQ,
    dtype: torch.dtype = torch.float32,
) -> ss.Workload:
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS // 2,
        max_position_embeddings=seq,
    )
    return causal_lm(LlamaForCausalLM, config, dtype, batch, seq)

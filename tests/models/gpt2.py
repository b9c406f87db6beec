"""GPT-2: tied embeddings, fused query-key-value, dropout."""

from __future__ import annotations

import torch
from toy import BATCH, HEADS, HIDDEN, LAYERS, SEQ, VOCAB, causal_lm
from transformers import GPT2Config, GPT2LMHeadModel

import superscaler as ss


def gpt2(
    layers: int = LAYERS,
    hidden: int = HIDDEN,
    batch: int = BATCH,
    seq: int = SEQ,
    dropout: float = 0.1,
    dtype: torch.dtype = torch.float32,
) -> ss.Workload:
    config = GPT2Config(
        vocab_size=VOCAB,
        n_embd=hidden,
        n_layer=layers,
        n_head=HEADS,
        n_positions=seq,
        bos_token_id=0,
        eos_token_id=0,
        resid_pdrop=dropout,
        embd_pdrop=dropout,
        attn_pdrop=dropout,
    )
    return causal_lm(GPT2LMHeadModel, config, dtype, batch, seq)

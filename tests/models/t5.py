"""T5: relative positions as a bias shared by all layers, and RMS norm."""

from __future__ import annotations

import torch
from toy import BATCH, HEADS, HIDDEN, SEQ, VOCAB, seq_to_seq
from transformers import T5Config, T5ForConditionalGeneration

import superscaler as ss


def t5(
    layers: int = 2,
    hidden: int = HIDDEN,
    batch: int = BATCH,
    seq: int = SEQ,
    dropout: float = 0.0,
    dtype: torch.dtype = torch.float32,
) -> ss.Workload:
    config = T5Config(
        vocab_size=VOCAB,
        d_model=hidden,
        d_kv=hidden // HEADS,
        d_ff=2 * hidden,
        num_layers=layers,
        num_heads=HEADS,
        dropout_rate=dropout,
        decoder_start_token_id=0,
    )
    return seq_to_seq(T5ForConditionalGeneration, config, dtype, batch, seq)

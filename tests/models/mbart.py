"""mBART: an encoder and a decoder with shared embeddings, and dropout."""

from __future__ import annotations

import torch
from toy import BATCH, HEADS, HIDDEN, SEQ, VOCAB, seq_to_seq
from transformers import MBartConfig, MBartForConditionalGeneration

import superscaler as ss


def mbart(
    layers: int = 2,
    hidden: int = HIDDEN,
    batch: int = BATCH,
    seq: int = SEQ,
    dropout: float = 0.1,
    dtype: torch.dtype = torch.float32,
) -> ss.Workload:
    config = MBartConfig(
        vocab_size=VOCAB,
        d_model=hidden,
        encoder_layers=layers,
        decoder_layers=layers,
        encoder_attention_heads=HEADS,
        decoder_attention_heads=HEADS,
        encoder_ffn_dim=2 * hidden,
        decoder_ffn_dim=2 * hidden,
        max_position_embeddings=seq,
        dropout=dropout,
        attention_dropout=dropout,
        activation_dropout=dropout,
    )
    return seq_to_seq(MBartForConditionalGeneration, config, dtype, batch, seq)

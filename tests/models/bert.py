"""BERT: an encoder with token types and a tied masked-language head."""

from __future__ import annotations

import torch
from toy import BATCH, HEADS, HIDDEN, LAYERS, SEQ, VOCAB, masked_lm
from transformers import BertConfig, BertForMaskedLM

import superscaler as ss


def bert(
    layers: int = LAYERS,
    hidden: int = HIDDEN,
    batch: int = BATCH,
    seq: int = SEQ,
    dropout: float = 0.0,
    dtype: torch.dtype = torch.float32,
) -> ss.Workload:
    config = BertConfig(
        vocab_size=VOCAB,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=HEADS,
        max_position_embeddings=seq,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    return masked_lm(BertForMaskedLM, config, dtype, batch, seq)

"""Whisper: a convolutional front end, an audio encoder and a text decoder."""

from __future__ import annotations

import torch
from toy import BATCH, HEADS, HIDDEN, SEQ, VOCAB, tokens, workload
from transformers import WhisperConfig, WhisperForConditionalGeneration

import superscaler as ss


def whisper(
    layers: int = 2,
    hidden: int = HIDDEN,
    batch: int = BATCH,
    seq: int = SEQ,
    dtype: torch.dtype = torch.float32,
) -> ss.Workload:
    config = WhisperConfig(
        vocab_size=VOCAB,
        num_mel_bins=16,
        d_model=hidden,
        encoder_layers=layers,
        decoder_layers=layers,
        encoder_attention_heads=HEADS,
        decoder_attention_heads=HEADS,
        encoder_ffn_dim=2 * hidden,
        decoder_ffn_dim=2 * hidden,
        max_source_positions=seq,
        max_target_positions=seq,
        pad_token_id=0,
        bos_token_id=0,
        eos_token_id=0,
        decoder_start_token_id=1,
    )
    torch.manual_seed(1)
    features = torch.randn(batch, config.num_mel_bins, 2 * seq)
    labels = tokens(batch, seq)
    kind = WhisperForConditionalGeneration
    return workload(kind, config, dtype, input_features=features, labels=labels)

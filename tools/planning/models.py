"""Models of `transformers` at the sizes of the papers, on the meta device."""

from __future__ import annotations

import torch
from transformers import (
    MBartConfig,
    MBartForConditionalGeneration,
    SwinConfig,
    SwinForImageClassification,
    T5Config,
    T5ForConditionalGeneration,
)

import superscaler as ss


def swin(layers: int, hidden: int, heads: int, batch: int, meta: bool = True) -> ss.Workload:
    """Swin on float16 images of 1,536 pixels with windows of 48 patches; depths are 2, 2,
    layers - 6 and 2."""
    config = SwinConfig(
        image_size=1536,
        patch_size=4,
        window_size=48,
        embed_dim=hidden,
        depths=[2, 2, layers - 6, 2],
        num_heads=[heads, 2 * heads, 4 * heads, 8 * heads],
        drop_path_rate=0.0,
        num_labels=1000,
    )
    with torch.device("meta" if meta else "cpu"):
        model = SwinForImageClassification(config)
    batch_of = {
        "pixel_values": torch.empty(batch, 3, 1536, 1536, dtype=torch.float16, device="meta")
    }
    batch_of["labels"] = torch.zeros(batch, dtype=torch.int64, device="meta")
    return _workload(model, batch_of)


def mbart(
    layers: int, hidden: int, vocab: int, seq: int, batch: int, meta: bool = True
) -> ss.Workload:
    """mBART with `layers` in encoder and decoder each, and a large tied vocabulary."""
    config = MBartConfig(
        vocab_size=vocab,
        d_model=hidden,
        encoder_layers=layers,
        decoder_layers=layers,
        encoder_attention_heads=hidden // 64,
        decoder_attention_heads=hidden // 64,
        encoder_ffn_dim=4 * hidden,
        decoder_ffn_dim=4 * hidden,
        max_position_embeddings=seq,
        dropout=0.0,
    )
    with torch.device("meta" if meta else "cpu"):
        model = MBartForConditionalGeneration(config)
    return _workload(model, _text(batch, seq))


def t5(
    layers: int, hidden: int, vocab: int, seq: int, batch: int, meta: bool = True
) -> ss.Workload:
    """T5 with `layers` in encoder and decoder each, and a large tied vocabulary."""
    config = T5Config(
        vocab_size=vocab,
        d_model=hidden,
        d_kv=64,
        d_ff=4 * hidden,
        num_layers=layers,
        num_decoder_layers=layers,
        num_heads=hidden // 64,
        dropout_rate=0.0,
        decoder_start_token_id=0,
    )
    with torch.device("meta" if meta else "cpu"):
        model = T5ForConditionalGeneration(config)
    return _workload(model, _text(batch, seq))


def _text(batch: int, seq: int) -> dict[str, torch.Tensor]:
    shape = {"size": (batch, seq), "dtype": torch.int64, "device": "meta"}
    return {"input_ids": torch.empty(**shape), "labels": torch.empty(**shape)}


def _workload(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> ss.Workload:
    return ss.Workload(
        step=lambda model, batch: model(**batch).loss,
        model=model,
        optimizer=lambda parameters: torch.optim.AdamW(parameters, lr=1e-4),
        batch=batch,
    )

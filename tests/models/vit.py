"""ViT: an encoder of image patches."""

from __future__ import annotations

import torch
from toy import BATCH, HEADS, HIDDEN, LAYERS, image_classifier
from transformers import ViTConfig, ViTForImageClassification

import superscaler as ss


def vit(
    layers: int = LAYERS,
    hidden: int = HIDDEN,
    batch: int = BATCH,
    size: int = 32,
    dtype: torch.dtype = torch.float32,
) -> ss.Workload:
    config = ViTConfig(
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=HEADS,
        image_size=size,
        patch_size=8,
        num_labels=8,
    )
    return image_classifier(ViTForImageClassification, config, dtype, batch, size)

"""Swin: attention in shifted windows, with patch merging between stages."""

from __future__ import annotations

import torch
from toy import BATCH, HIDDEN, image_classifier
from transformers import SwinConfig, SwinForImageClassification

import superscaler as ss


def swin(
    hidden: int = HIDDEN, batch: int = BATCH, size: int = 32, dtype: torch.dtype = torch.float32
) -> ss.Workload:
    config = SwinConfig(
        image_size=size,
        patch_size=2,
        window_size=4,
        embed_dim=hidden,
        depths=[2, 2],
        num_heads=[4, 8],
        mlp_ratio=2.0,
        drop_path_rate=0.0,
        num_labels=8,
    )
    return image_classifier(SwinForImageClassification, config, dtype, batch, size)

"""ResNet: convolutions and batch norm, whose statistics are buffers."""

from __future__ import annotations

import torch
from toy import BATCH, image_classifier
from transformers import ResNetConfig, ResNetForImageClassification

import superscaler as ss


def resnet(
    batch: int = BATCH,
    size: int = 32,
    layer_type: str = "bottleneck",
    dtype: torch.dtype = torch.float32,
) -> ss.Workload:
    config = ResNetConfig(
        embedding_size=8,
        hidden_sizes=[16, 32],
        depths=[2, 2],
        layer_type=layer_type,
        num_labels=8,
    )
    return image_classifier(ResNetForImageClassification, config, dtype, batch, size)

"""What the toy workloads share: their sizes, their batches and their optimizer."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PretrainedConfig, PreTrainedModel

import superscaler as ss

BATCH = 8
SEQ = 16
VOCAB = 64
HIDDEN = 32
HEADS = 4
LAYERS = 4


def step(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """The model's own loss."""
    return model(**batch).loss


def adamw(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.01)


def tokens(*shape: int, vocab: int = VOCAB) -> torch.Tensor:
    """Random token ids; the special ones, below 4, do not occur."""
    return torch.randint(4, vocab, shape)


def workload(
    kind: type[PreTrainedModel],
    config: PretrainedConfig,
    dtype: torch.dtype,
    **batch: torch.Tensor,
) -> ss.Workload:
    """A `transformers` model of this config, training on this batch."""
    torch.manual_seed(0)
    model = kind(config).to(dtype).train()
    cast = {k: x.to(dtype) if x.is_floating_point() else x for k, x in batch.items()}
    return ss.Workload(step=step, model=model, optimizer=adamw, batch=cast)


def causal_lm(
    kind: type[PreTrainedModel],
    config: PretrainedConfig,
    dtype: torch.dtype,
    batch: int = BATCH,
    seq: int = SEQ,
) -> ss.Workload:
    """A decoder predicting every next token."""
    torch.manual_seed(1)
    ids = tokens(batch, seq)
    return workload(kind, config, dtype, input_ids=ids, labels=ids.clone())


def masked_lm(
    kind: type[PreTrainedModel],
    config: PretrainedConfig,
    dtype: torch.dtype,
    batch: int = BATCH,
    seq: int = SEQ,
) -> ss.Workload:
    """An encoder predicting one token in four; -100 marks those that do not count."""
    torch.manual_seed(1)
    ids = tokens(batch, seq)
    labels = torch.where(torch.rand(batch, seq) < 0.25, ids, -100)
    labels[:, 0] = ids[:, 0]
    return workload(kind, config, dtype, input_ids=ids, labels=labels)


def seq_to_seq(
    kind: type[PreTrainedModel],
    config: PretrainedConfig,
    dtype: torch.dtype,
    batch: int = BATCH,
    seq: int = SEQ,
) -> ss.Workload:
    """An encoder and a decoder, whose sequence is half as long."""
    torch.manual_seed(1)
    ids, labels = tokens(batch, seq), tokens(batch, seq // 2)
    return workload(kind, config, dtype, input_ids=ids, labels=labels)


def image_classifier(
    kind: type[PreTrainedModel],
    config: PretrainedConfig,
    dtype: torch.dtype,
    batch: int = BATCH,
    size: int = 32,
) -> ss.Workload:
    """A classifier of random images into the config's labels."""
    torch.manual_seed(1)
    images = torch.randn(batch, 3, size, size)
    labels = torch.randint(config.num_labels, (batch,))
    return workload(kind, config, dtype, pixel_values=images, labels=labels)

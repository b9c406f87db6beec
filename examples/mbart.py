"""mBART as `transformers` ships it, unchanged, built from a config: huge tied embeddings.

    superscaler axes examples/mbart.py:workload
    superscaler verify examples/mbart.py:workload --plan 'hybrid(dp=2, tp=2)' --devices 4

With a vocabulary of 500,000 to 1,500,000 tokens, without its memory:

    superscaler compile examples/mbart.py:workload --set config=vocab_500k --set meta=true \\
        --plan 'hybrid(tp=2, pp=2, microbatches=4)' --devices 4 --out build/mbart

One weight is the embedding of encoder and decoder, and the head: over half of the parameters.
It learns to write down Python's documentation, of which it sees a part.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pydoc_data.topics import topics

import torch
from transformers import MBartConfig, MBartForConditionalGeneration

import superscaler as ss

SPECIAL = 4  # tokens that are no bytes: padding, begin, end, unknown
UNKNOWN = 3


@dataclass(frozen=True)
class Sizes:
    """`layers` of the encoder, and as many of the decoder."""

    vocab: int
    layers: int
    hidden: int
    heads: int
    ffn: int
    seq: int
    batch: int = 8


# The vocabularies are published; the first widths are mBART-large's, the others scaled from them.
CONFIGS = {
    "toy": Sizes(260, 2, 32, 4, 64, 16),
    "vocab_500k": Sizes(500_000, 12, 1024, 16, 4096, 1024),
    "vocab_1m": Sizes(1_000_000, 16, 1536, 16, 6144, 1024),
    "vocab_1500k": Sizes(1_500_000, 20, 2048, 32, 8192, 1024),
}


def step(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """The model's own loss."""
    return model(**batch).loss


def batches(sizes: Sizes, seed: int) -> Iterator[dict[str, torch.Tensor]]:
    """Windows of the text, and the same with bytes left out; the same ones for the same seed."""
    text = "\n".join(topics[name] for name in sorted(topics)).encode()
    corpus = torch.frombuffer(bytearray(text), dtype=torch.uint8).long() + SPECIAL
    generator = torch.Generator().manual_seed(seed)
    while True:
        starts = torch.randint(len(corpus) - sizes.seq, (sizes.batch, 1), generator=generator)
        windows = corpus[starts + torch.arange(sizes.seq)]
        hidden = torch.rand(windows.shape, generator=generator) < 0.3
        yield {"input_ids": windows.masked_fill(hidden, UNKNOWN), "labels": windows}


def shapes(sizes: Sizes) -> dict[str, torch.Tensor]:
    """A batch without values."""
    tokens = torch.empty(sizes.batch, sizes.seq, dtype=torch.long, device="meta")
    return {"input_ids": tokens, "labels": tokens.clone()}


def workload(
    config: str = "toy", lr: float = 1e-3, meta: bool = False, seed: int = 0, **sizes: int
) -> ss.Workload:
    """The mBART of a config, some of its sizes changed; `meta` makes no weights and no batch."""
    if config not in CONFIGS:
        raise ValueError(f"config is {config!r}, expected one of {', '.join(CONFIGS)}")
    chosen = replace(CONFIGS[config], **sizes)
    mbart = MBartConfig(
        vocab_size=chosen.vocab,
        d_model=chosen.hidden,
        encoder_layers=chosen.layers,
        decoder_layers=chosen.layers,
        encoder_attention_heads=chosen.heads,
        decoder_attention_heads=chosen.heads,
        encoder_ffn_dim=chosen.ffn,
        decoder_ffn_dim=chosen.ffn,
        max_position_embeddings=chosen.seq,
    )
    torch.manual_seed(seed)
    with torch.device("meta" if meta else "cpu"):
        model = MBartForConditionalGeneration(mbart).train()
    return ss.Workload(
        step=step,
        model=model,
        optimizer=lambda parameters: torch.optim.AdamW(parameters, lr=lr),
        batch=shapes(chosen) if meta else next(batches(chosen, seed)),
        data=lambda: batches(chosen, seed),
        seed=seed,
    )

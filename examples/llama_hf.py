"""LLaMA as `transformers` ships it, unchanged, built from a config.

    superscaler axes examples/llama_hf.py:workload
    superscaler verify examples/llama_hf.py:workload --plan 'hybrid(dp=2, tp=2)' --devices 4

LLaMA-7B, without its memory:

    superscaler compile examples/llama_hf.py:workload --set layers=32 --set hidden=4096 \\
        --set ffn=11008 --set heads=32 --set vocab=32000 --set seq=2048 --set meta=true \\
        --plan 'hybrid(tp=4, pp=2, microbatches=4, order="1f1b")' --devices 8 --out build/llama
"""

from __future__ import annotations

from collections.abc import Iterator
from pydoc_data.topics import topics

import torch
from transformers import LlamaConfig, LlamaForCausalLM

import superscaler as ss

NUM_TOKENS = 256  # a token is a byte


def step(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """The model's own loss."""
    return model(**batch).loss


def batches(batch: int, seq: int, seed: int) -> Iterator[dict[str, torch.Tensor]]:
    """Random windows of Python's documentation, without end, the same ones for the same seed."""
    text = "\n".join(topics[name] for name in sorted(topics)).encode()
    corpus = torch.frombuffer(bytearray(text), dtype=torch.uint8).long()
    generator = torch.Generator().manual_seed(seed)
    while True:
        starts = torch.randint(len(corpus) - seq, (batch, 1), generator=generator)
        windows = corpus[starts + torch.arange(seq)]
        yield {"input_ids": windows, "labels": windows.clone()}


def workload(
    layers: int = 4,
    hidden: int = 128,
    ffn: int = 352,
    heads: int = 4,
    kv_heads: int | None = None,
    vocab: int = NUM_TOKENS,
    seq: int = 64,
    batch: int = 8,
    lr: float = 3e-4,
    meta: bool = False,
    seed: int = 0,
) -> ss.Workload:
    """LLaMA of these sizes; `meta` leaves the weights to be made at run time, shard by shard."""
    config = LlamaConfig(
        num_hidden_layers=layers,
        hidden_size=hidden,
        intermediate_size=ffn,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        vocab_size=vocab,
        max_position_embeddings=seq,
    )
    torch.manual_seed(seed)
    with torch.device("meta" if meta else "cpu"):
        model = LlamaForCausalLM(config).train()
    return ss.Workload(
        step=step,
        model=model,
        optimizer=lambda parameters: torch.optim.AdamW(parameters, lr=lr),
        batch=next(batches(batch, seq, seed)),
        data=lambda: batches(batch, seq, seed),
        seed=seed,
    )

"""A small GPT trained on the English of Python's own documentation.

    superscaler trace examples/gpt.py:workload
    superscaler compile examples/gpt.py:workload --plan 'megatron(tp=2)' --devices 2 --out build/gpt
    superscaler launch build/gpt --nproc-per-node 2 --steps 50
    superscaler verify examples/gpt.py:workload --plan 'zero(dp=2, stage=3)' --devices 2

Every size is a setting: `--set layers=96 --set hidden=12288 --set heads=96 --set meta=true`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pydoc_data.topics import topics

import torch
from torch import nn
from torch.nn import functional as F

import superscaler as ss

NUM_TOKENS = 256  # a token is a byte


class Attention(nn.Module):
    """Causal self-attention; without `fused`, as products with all scores in memory."""

    def __init__(self, hidden: int, heads: int, dropout: float, fused: bool) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.fused = fused
        self.query = nn.Linear(hidden, hidden)
        self.key = nn.Linear(hidden, hidden)
        self.value = nn.Linear(hidden, hidden)
        self.output = nn.Linear(hidden, hidden)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        split = (*x.shape[:2], self.heads, x.shape[2] // self.heads)
        query, key, value = (
            project(x).view(split).transpose(1, 2) for project in (self.query, self.key, self.value)
        )
        dropout = self.dropout if self.training else 0.0
        if not self.fused:
            scores = query @ key.transpose(-2, -1) / key.shape[-1] ** 0.5
            later = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).triu(1)
            weights = F.dropout(scores.masked_fill(later, float("-inf")).softmax(-1), dropout)
            return self.output((weights @ value).transpose(1, 2).flatten(2))
        mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=True)
        return self.output(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention and feed-forward, each behind a norm and around a residual."""

    def __init__(self, hidden: int, heads: int, dropout: float, fused: bool) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(hidden)
        self.attention = Attention(hidden, heads, dropout, fused)
        self.norm2 = nn.LayerNorm(hidden)
        self.fc1 = nn.Linear(hidden, 4 * hidden)
        self.fc2 = nn.Linear(4 * hidden, hidden)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.dropout(self.attention(self.norm1(x)))
        return x + self.dropout(self.fc2(F.gelu(self.fc1(self.norm2(x)))))


class GPT(nn.Module):
    """A decoder-only transformer over `vocab` tokens."""

    def __init__(
        self,
        vocab: int,
        layers: int,
        hidden: int,
        heads: int,
        seq: int,
        tied: bool,
        dropout: float,
        fused: bool,
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocab, hidden)
        self.positions = nn.Embedding(seq, hidden)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(Block(hidden, heads, dropout, fused) for _ in range(layers))
        self.norm = nn.LayerNorm(hidden)
        self.head = nn.Linear(hidden, vocab, bias=False)
        if tied:
            self.head.weight = self.tokens.weight
        self.apply(self._init_weights)

    def _init_weights(self, module: nn.Module) -> None:
        """GPT-2's: normal weights, zero biases. On the meta device it is called at run time."""
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear | nn.LayerNorm) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.dropout(self.tokens(tokens) + self.positions(positions))
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x))


def step(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """The loss of predicting every next token."""
    logits = model(batch["tokens"])
    return F.cross_entropy(logits.flatten(0, 1), batch["targets"].flatten())


def batches(batch: int, seq: int, seed: int) -> Iterator[dict[str, torch.Tensor]]:
    """Random windows of the text, without end, the same ones for the same seed."""
    text = "\n".join(topics[name] for name in sorted(topics)).encode()
    corpus = torch.frombuffer(bytearray(text), dtype=torch.uint8).long()
    generator = torch.Generator().manual_seed(seed)
    while True:
        starts = torch.randint(len(corpus) - seq, (batch, 1), generator=generator)
        windows = corpus[starts + torch.arange(seq + 1)]
        yield {"tokens": windows[:, :-1].clone(), "targets": windows[:, 1:].clone()}


def workload(
    layers: int = 4,
    hidden: int = 128,
    heads: int = 4,
    seq: int = 64,
    batch: int = 16,
    vocab: int = NUM_TOKENS,
    tied: bool = False,
    dropout: float = 0.0,
    fused: bool = True,
    lr: float = 1e-3,
    clip: float | None = None,
    meta: bool = False,
    seed: int = 0,
) -> ss.Workload:
    """The GPT and its text; `meta` leaves the weights to be made at run time, shard by shard."""
    if vocab < NUM_TOKENS:
        raise ValueError(f"vocab is {vocab}, but the text's bytes need {NUM_TOKENS}")
    torch.manual_seed(seed)
    with torch.device("meta" if meta else "cpu"):
        model = GPT(vocab, layers, hidden, heads, seq, tied, dropout, fused)
    return ss.Workload(
        step=step,
        model=model,
        optimizer=lambda parameters: torch.optim.AdamW(parameters, lr=lr),
        batch=next(batches(batch, seq, seed)),
        clip_grad_norm=clip,
        data=lambda: batches(batch, seq, seed),
        seed=seed,
    )

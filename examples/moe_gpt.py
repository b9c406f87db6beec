"""A GPT whose feed-forwards are mixtures of experts of fixed capacity, as GShard and Switch have.

    superscaler axes examples/moe_gpt.py:workload
    superscaler verify examples/moe_gpt.py:workload --plan plans/expert_parallel2.yaml --devices 2

The larger configs, without their memory:

    superscaler compile examples/moe_gpt.py:workload --set config=moe_52b --set meta=true \\
        --plan plans/expert_parallel8.yaml --devices 8 --out build/moe

Every batch row is a group. A router chooses one expert for a token (Switch, arXiv 2101.03961) or
two (GShard, arXiv 2006.16668); an expert takes at most `capacity` tokens of a group, in order, and
those beyond it pass by on the residual. Dispatch and combination are products with one-hot tensors
[group, token, expert, capacity], so nothing depends on the data but values. A loss of balance,
added to that of the prediction, keeps the router from preferring a few experts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil
from pydoc_data.topics import topics

import torch
from torch import nn
from torch.nn import functional as F

import superscaler as ss

NUM_BYTES = 256  # a token is a byte of the text


@dataclass(frozen=True)
class Sizes:
    """`top` experts of `experts` for a token; every `every`-th feed-forward is a mixture."""

    layers: int
    hidden: int
    heads: int
    seq: int
    batch: int
    experts: int
    top: int = 2
    every: int = 2
    capacity_percent: int = 125  # of an even share of a group's tokens
    balance_percent: int = 1  # weight of the loss of balance
    vocab: int = NUM_BYTES

    @property
    def capacity(self) -> int:
        """Tokens of one group that one expert takes."""
        return ceil(self.top * self.seq * self.capacity_percent / 100 / self.experts)


CONFIGS = {
    "toy": Sizes(layers=2, hidden=32, heads=4, seq=16, batch=8, experts=4),
    "toy_switch": Sizes(layers=2, hidden=32, heads=4, seq=16, batch=8, experts=4, top=1, every=1),
    # GPT-3's small, medium and XL with 64 or 128 experts in every other layer.
    "moe_2b": Sizes(12, 768, 12, 1024, 64, experts=64, vocab=50304),
    "moe_7b": Sizes(24, 1024, 16, 2048, 64, experts=64, vocab=50304),
    "moe_52b": Sizes(24, 2048, 16, 2048, 128, experts=128, vocab=50304),
}


class Attention(nn.Module):
    """Causal self-attention."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(hidden, hidden)
        self.key = nn.Linear(hidden, hidden)
        self.value = nn.Linear(hidden, hidden)
        self.output = nn.Linear(hidden, hidden)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = (
            project(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for project in (self.query, self.key, self.value)
        )
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.output(mixed.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """Two products, dense."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.fc1 = nn.Linear(sizes.hidden, 4 * sizes.hidden)
        self.fc2 = nn.Linear(4 * sizes.hidden, sizes.hidden)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The output, and a loss of balance of 0."""
        return self.fc2(F.gelu(self.fc1(x))), x.new_zeros(())


class Router(nn.Module):
    """Which token goes to which place of which expert."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.gate = nn.Linear(sizes.hidden, sizes.experts, bias=False)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Weights [group, token, expert, capacity], 0 where a token does not go; and the balance.

        The balance is 1 if all experts are as probable, and chosen first as often, as any other.
        """
        sizes = self.sizes
        probabilities = self.gate(x).softmax(-1)
        values, chosen = probabilities.topk(sizes.top)
        if sizes.top > 1:
            values = values / values.sum(-1, keepdim=True)
        choices = F.one_hot(chosen, sizes.experts)  # [group, token, choice, expert]
        balance = (choices[:, :, 0].to(x.dtype).mean(1) * probabilities.mean(1)).mean(0).sum()
        weights = x.new_zeros(())
        taken = torch.zeros_like(choices[:, :1, 0])
        for choice, value in zip(choices.unbind(2), values.unbind(2)):
            place = (choice.cumsum(1) + taken - 1) * choice
            goes = choice * (place < sizes.capacity)
            at = F.one_hot(place.clamp(max=sizes.capacity - 1), sizes.capacity) * goes[..., None]
            weights = weights + value[..., None, None] * at.to(x.dtype)
            taken = taken + choice.sum(1, keepdim=True)
        return weights, sizes.experts * balance


class Experts(nn.Module):
    """Experts of two products each: w1 [expert, hidden, ffn] and w2 [expert, ffn, hidden]."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.w1 = nn.Parameter(torch.empty(sizes.experts, sizes.hidden, 4 * sizes.hidden))
        self.w2 = nn.Parameter(torch.empty(sizes.experts, 4 * sizes.hidden, sizes.hidden))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.w1, std=0.02)
        nn.init.normal_(self.w2, std=0.02)

    def forward(self, sent: torch.Tensor) -> torch.Tensor:
        """What each expert makes of the tokens sent to it [expert, group, capacity, hidden]."""
        inner = F.gelu(torch.einsum("egch,ehf->egcf", sent, self.w1))
        return torch.einsum("egcf,efh->egch", inner, self.w2)


class MixtureOfExperts(nn.Module):
    """Tokens are sent to the experts their router chooses, and come back weighted."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.router = Router(sizes)
        self.experts = Experts(sizes)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The output [group, token, hidden], and the loss of balance."""
        weights, balance = self.router(x)
        sent = torch.einsum("gtec,gth->egch", (weights > 0).to(x.dtype), x)
        return torch.einsum("gtec,egch->gth", weights, self.experts(sent)), balance


class Block(nn.Module):
    """Attention, then a feed-forward or a mixture, each behind a norm and around a residual."""

    def __init__(self, sizes: Sizes, is_mixture: bool) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(sizes.hidden)
        self.attention = Attention(sizes.hidden, sizes.heads)
        self.norm2 = nn.LayerNorm(sizes.hidden)
        if is_mixture:
            self.moe = MixtureOfExperts(sizes)
        else:
            self.ffn = FeedForward(sizes)
        self.is_mixture = is_mixture

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = x + self.attention(self.norm1(x))
        update, balance = (self.moe if self.is_mixture else self.ffn)(self.norm2(x))
        return x + update, balance


class MoEGPT(nn.Module):
    """A decoder-only transformer; every `every`-th block has a mixture of experts."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.tokens = nn.Embedding(sizes.vocab, sizes.hidden)
        self.positions = nn.Embedding(sizes.seq, sizes.hidden)
        self.layers = nn.ModuleList(
            Block(sizes, is_mixture=(i + 1) % sizes.every == 0) for i in range(sizes.layers)
        )
        self.norm = nn.LayerNorm(sizes.hidden)
        self.head = nn.Linear(sizes.hidden, sizes.vocab, bias=False)
        self.balance_weight = sizes.balance_percent / 100

    def forward(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits [batch, seq, vocab], and the weighted loss of balance."""
        x = self.tokens(tokens) + self.positions.weight
        balances = []
        for layer in self.layers:
            x, balance = layer(x)
            balances.append(balance)
        return self.head(self.norm(x)), self.balance_weight * sum(balances)


def step(
    model: nn.Module, batch: dict[str, torch.Tensor]
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The loss of predicting every next token, and that of balance."""
    logits, balance = model(batch["tokens"])
    prediction = F.cross_entropy(logits.flatten(0, 1), batch["targets"].flatten())
    return prediction + balance, {"prediction": prediction, "balance": balance}


def batches(sizes: Sizes, seed: int) -> Iterator[dict[str, torch.Tensor]]:
    """Random windows of Python's documentation, without end, the same ones for the same seed."""
    text = "\n".join(topics[name] for name in sorted(topics)).encode()
    corpus = torch.frombuffer(bytearray(text), dtype=torch.uint8).long()
    generator = torch.Generator().manual_seed(seed)
    while True:
        starts = torch.randint(len(corpus) - sizes.seq, (sizes.batch, 1), generator=generator)
        windows = corpus[starts + torch.arange(sizes.seq + 1)]
        yield {"tokens": windows[:, :-1].clone(), "targets": windows[:, 1:].clone()}


def workload(
    config: str = "toy", lr: float = 1e-3, meta: bool = False, seed: int = 0, **sizes: int
) -> ss.Workload:
    """The GPT of a config, some of its sizes changed; `meta` leaves its weights to the run."""
    if config not in CONFIGS:
        raise ValueError(f"config is {config!r}, expected one of {', '.join(CONFIGS)}")
    chosen = replace(CONFIGS[config], **sizes)
    torch.manual_seed(seed)
    with torch.device("meta" if meta else "cpu"):
        model = MoEGPT(chosen)
    return ss.Workload(
        step=step,
        model=model,
        optimizer=lambda parameters: torch.optim.AdamW(parameters, lr=lr),
        batch=next(batches(chosen, seed)),
        data=lambda: batches(chosen, seed),
        seed=seed,
    )

"""AlphaFold2's Evoformer trunk with recycling, on made-up proteins.

    superscaler axes examples/evoformer.py:workload
    superscaler verify examples/evoformer.py:workload --plan 'hybrid(dp=2, pp=2, microbatches=2)' \\
        --devices 4

The published sizes, (s, r) = (128, 256), (512, 256) or (512, 384), without their memory:

    superscaler compile examples/evoformer.py:workload --set config=s128_r256 --set meta=true \\
        --plan 'hybrid(dp=2, pp=2, microbatches=4)' --devices 4 --out build/evoformer

Algorithms are those of the supplement of Jumper et al. 2021 (Nature 596). The trunk runs three
times, the first two without gradient; each pass begins with the normalised first MSA row and pair
representation of the pass before (algorithm 32). Left out: the structure module, and with it the
recycled distances of its prediction; templates and the stack of extra sequences. Tokens are
embedded by table, and every pass sees the same sequences.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import sqrt

import torch
from torch import nn
from torch.nn import functional as F

import superscaler as ss

AMINO_ACIDS = 20
GAP, MASKED, NUM_TOKENS = 20, 21, 22
MAX_OFFSET = 32  # residues further apart than this look alike (algorithm 4)
BIN_EDGES = torch.linspace(2.3125, 21.6875, 63)  # of the distogram, in angstrom
LOSS_WEIGHTS = {"masked_msa": 2.0, "distogram": 0.3}


@dataclass(frozen=True)
class Sizes:
    """Numbers of sequences (s), residues (r) and channels; `head` is the width of a head."""

    sequences: int
    residues: int
    batch: int
    blocks: int = 48
    msa: int = 256
    pair: int = 128
    msa_heads: int = 8
    pair_heads: int = 4
    head: int = 32
    product: int = 32
    triangle: int = 128
    cycles: int = 3
    dropout: int = 0  # in percent; the paper has 15 in the MSA and 25 in the pairs


CONFIGS = {
    "toy": Sizes(
        4, 8, 4, 2, msa=16, pair=8, msa_heads=4, pair_heads=2, head=4, product=4, triangle=8
    ),
    "s128_r256": Sizes(128, 256, 8),
    "s512_r256": Sizes(512, 256, 8),
    "s512_r384": Sizes(512, 384, 8),
}


class GatedAttention(nn.Module):
    """Attention within each row of x [batch, rows, n, width], gated; see algorithms 7, 8 and 13.

    `bias` [batch, n, n, heads] is added to the logits of every row.
    """

    def __init__(self, width: int, heads: int, head: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, heads * head, bias=False)
        self.key = nn.Linear(width, heads * head, bias=False)
        self.value = nn.Linear(width, heads * head, bias=False)
        self.gate = nn.Linear(width, heads * head)
        self.output = nn.Linear(heads * head, width)

    def forward(self, x: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        query, key, value = (
            project(x).unflatten(-1, (self.heads, -1))
            for project in (self.query, self.key, self.value)
        )
        logits = torch.einsum("bsihc,bsjhc->bshij", query / sqrt(query.shape[-1]), key)
        if bias is not None:
            logits = logits + bias.permute(0, 3, 1, 2)[:, None]
        mixed = torch.einsum("bshij,bsjhc->bsihc", logits.softmax(-1), value)
        return self.output(torch.sigmoid(self.gate(x)) * mixed.flatten(-2))


class RowAttention(nn.Module):
    """Algorithm 7: attention within the rows of the MSA, biased by the pairs."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(sizes.msa)
        self.pair_norm = nn.LayerNorm(sizes.pair)
        self.bias = nn.Linear(sizes.pair, sizes.msa_heads, bias=False)
        self.attention = GatedAttention(sizes.msa, sizes.msa_heads, sizes.head)

    def forward(self, msa: torch.Tensor, pair: torch.Tensor) -> torch.Tensor:
        return self.attention(self.norm(msa), self.bias(self.pair_norm(pair)))


class ColumnAttention(nn.Module):
    """Algorithm 8: attention within the columns of the MSA."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(sizes.msa)
        self.attention = GatedAttention(sizes.msa, sizes.msa_heads, sizes.head)

    def forward(self, msa: torch.Tensor) -> torch.Tensor:
        return self.attention(self.norm(msa).transpose(1, 2)).transpose(1, 2)


class Transition(nn.Module):
    """Algorithms 9 and 15: a feed-forward of four times the width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(F.relu(self.fc1(self.norm(x))))


class OuterProductMean(nn.Module):
    """Algorithm 10: what the columns i and j of the MSA tell about the pair ij."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(sizes.msa)
        self.left = nn.Linear(sizes.msa, sizes.product)
        self.right = nn.Linear(sizes.msa, sizes.product)
        self.output = nn.Linear(sizes.product * sizes.product, sizes.pair)

    def forward(self, msa: torch.Tensor) -> torch.Tensor:
        msa = self.norm(msa)
        outer = torch.einsum("bsic,bsjd->bijcd", self.left(msa), self.right(msa)) / msa.shape[1]
        return self.output(outer.flatten(-2))


class TriangleMultiplication(nn.Module):
    """Algorithms 11 and 12: the edges ik and jk that start at i and j, or end there, update ij."""

    def __init__(self, sizes: Sizes, outgoing: bool) -> None:
        super().__init__()
        self.product = "bikc,bjkc->bijc" if outgoing else "bkic,bkjc->bijc"
        self.norm = nn.LayerNorm(sizes.pair)
        self.left = nn.Linear(sizes.pair, sizes.triangle)
        self.left_gate = nn.Linear(sizes.pair, sizes.triangle)
        self.right = nn.Linear(sizes.pair, sizes.triangle)
        self.right_gate = nn.Linear(sizes.pair, sizes.triangle)
        self.output_norm = nn.LayerNorm(sizes.triangle)
        self.output = nn.Linear(sizes.triangle, sizes.pair)
        self.gate = nn.Linear(sizes.pair, sizes.pair)

    def forward(self, pair: torch.Tensor) -> torch.Tensor:
        pair = self.norm(pair)
        left = torch.sigmoid(self.left_gate(pair)) * self.left(pair)
        right = torch.sigmoid(self.right_gate(pair)) * self.right(pair)
        product = torch.einsum(self.product, left, right)
        return torch.sigmoid(self.gate(pair)) * self.output(self.output_norm(product))


class TriangleAttention(nn.Module):
    """Algorithms 13 and 14: edges with one starting node, or one ending node, attend to another.

    Those with one ending node are the columns, so they are the rows of the transposed pairs.
    """

    def __init__(self, sizes: Sizes, starting: bool) -> None:
        super().__init__()
        self.starting = starting
        self.norm = nn.LayerNorm(sizes.pair)
        self.bias = nn.Linear(sizes.pair, sizes.pair_heads, bias=False)
        self.attention = GatedAttention(sizes.pair, sizes.pair_heads, sizes.head)

    def forward(self, pair: torch.Tensor) -> torch.Tensor:
        pair = self.norm(pair if self.starting else pair.transpose(1, 2))
        update = self.attention(pair, self.bias(pair))
        return update if self.starting else update.transpose(1, 2)


class SharedDropout(nn.Module):
    """Dropout of `percent`, the same one along all of `dim`: rows or columns drop out as one."""

    def __init__(self, percent: int, dim: int) -> None:
        super().__init__()
        self.probability = percent / 100
        self.dim = dim

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.probability:
            return x
        shape = [1 if dim == self.dim else size for dim, size in enumerate(x.shape)]
        return x * F.dropout(x.new_ones(shape), self.probability, self.training)


class Block(nn.Module):
    """Algorithm 6, one block: the MSA [b, s, r, msa] first, then the pairs [b, r, r, pair]."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.row_attention = RowAttention(sizes)
        self.column_attention = ColumnAttention(sizes)
        self.msa_transition = Transition(sizes.msa)
        self.outer_product = OuterProductMean(sizes)
        self.outgoing = TriangleMultiplication(sizes, outgoing=True)
        self.incoming = TriangleMultiplication(sizes, outgoing=False)
        self.starting = TriangleAttention(sizes, starting=True)
        self.ending = TriangleAttention(sizes, starting=False)
        self.pair_transition = Transition(sizes.pair)
        self.rows = SharedDropout(sizes.dropout, dim=1)
        self.columns = SharedDropout(sizes.dropout, dim=2)

    def forward(self, msa: torch.Tensor, pair: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        msa = msa + self.rows(self.row_attention(msa, pair))
        msa = msa + self.column_attention(msa)
        msa = msa + self.msa_transition(msa)
        pair = pair + self.outer_product(msa)
        pair = pair + self.rows(self.outgoing(pair))
        pair = pair + self.rows(self.incoming(pair))
        pair = pair + self.rows(self.starting(pair))
        pair = pair + self.columns(self.ending(pair))
        return msa, pair + self.pair_transition(pair)


class Embedder(nn.Module):
    """Algorithms 3, 4 and 32: tokens, relative positions, and what the pass before has found."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.msa = nn.Embedding(NUM_TOKENS, sizes.msa)
        self.target = nn.Embedding(NUM_TOKENS, sizes.msa)
        self.left = nn.Embedding(NUM_TOKENS, sizes.pair)
        self.right = nn.Embedding(NUM_TOKENS, sizes.pair)
        self.offsets = nn.Embedding(2 * MAX_OFFSET + 1, sizes.pair)
        self.row_norm = nn.LayerNorm(sizes.msa)
        self.pair_norm = nn.LayerNorm(sizes.pair)

    def forward(
        self, tokens: torch.Tensor, target: torch.Tensor, row: torch.Tensor, pair: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        msa = self.msa(tokens) + self.target(target)[:, None]
        msa[:, 0] += self.row_norm(row)
        numbers = torch.arange(target.shape[1], device=target.device)
        offsets = (numbers[:, None] - numbers).clamp(-MAX_OFFSET, MAX_OFFSET) + MAX_OFFSET
        embedded = self.left(target)[:, :, None] + self.right(target)[:, None]
        return msa, embedded + self.offsets(offsets) + self.pair_norm(pair)


class Evoformer(nn.Module):
    """The trunk with its embeddings, its recycling, and two heads."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.embedder = Embedder(sizes)
        self.blocks = nn.ModuleList(Block(sizes) for _ in range(sizes.blocks))
        self.masked_msa = nn.Linear(sizes.msa, NUM_TOKENS)
        self.distogram = nn.Linear(sizes.pair, len(BIN_EDGES) + 1)

    def cycle(
        self, tokens: torch.Tensor, target: torch.Tensor, row: torch.Tensor, pair: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """One pass through the trunk, given what the one before has found."""
        msa, pair = self.embedder(tokens, target, row, pair)
        for block in self.blocks:
            msa, pair = block(msa, pair)
        return msa, pair

    def forward(
        self, tokens: torch.Tensor, target: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of the MSA's tokens [b, s, r, tokens] and of distances [b, r, r, bins]."""
        like = self.embedder.row_norm.weight
        row = like.new_zeros(*target.shape, self.sizes.msa)
        pair = like.new_zeros(*target.shape, target.shape[1], self.sizes.pair)
        with torch.no_grad():
            for _ in range(self.sizes.cycles - 1):
                msa, pair = self.cycle(tokens, target, row, pair)
                row = msa[:, 0]
        msa, pair = self.cycle(tokens, target, row, pair)
        return self.masked_msa(msa), self.distogram(pair + pair.transpose(1, 2))


def step(
    model: nn.Module, batch: dict[str, torch.Tensor]
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The loss of the masked tokens of the MSA and of the distances between residues."""
    token_logits, distance_logits = model(batch["msa"], batch["target"])
    losses = {
        "masked_msa": F.cross_entropy(token_logits.flatten(0, -2), batch["masked"].flatten()),
        "distogram": F.cross_entropy(distance_logits.flatten(0, -2), batch["bins"].flatten()),
    }
    return sum(LOSS_WEIGHTS[name] * loss for name, loss in losses.items()), losses


def batches(sizes: Sizes, seed: int) -> Iterator[dict[str, torch.Tensor]]:
    """Proteins that are random walks; their MSAs are mutated copies of random sequences."""
    generator = torch.Generator().manual_seed(seed)
    every = (sizes.batch, sizes.sequences, sizes.residues)
    while True:
        target = torch.randint(AMINO_ACIDS, (every[0], every[2]), generator=generator)
        others = torch.randint(GAP + 1, every, generator=generator)
        is_mutated = torch.rand(every, generator=generator) < 0.3
        is_mutated[:, 0] = False
        msa = torch.where(is_mutated, others, target[:, None])
        is_masked = torch.rand(every, generator=generator) < 0.15
        is_masked[:, 0, 0] = True
        places = torch.randn(every[0], every[2], 3, generator=generator).cumsum(1) * 3.8 / sqrt(3)
        yield {
            "msa": msa.masked_fill(is_masked, MASKED),
            "target": target,
            "masked": msa.masked_fill(~is_masked, -100),
            "bins": torch.bucketize(torch.cdist(places, places), BIN_EDGES),
        }


def shapes(sizes: Sizes) -> dict[str, torch.Tensor]:
    """A batch without values."""
    b, s, r = sizes.batch, sizes.sequences, sizes.residues
    dims = {"msa": (b, s, r), "target": (b, r), "masked": (b, s, r), "bins": (b, r, r)}
    return {n: torch.empty(d, dtype=torch.long, device="meta") for n, d in dims.items()}


def workload(
    config: str = "toy", lr: float = 1e-3, meta: bool = False, seed: int = 0, **sizes: int
) -> ss.Workload:
    """The Evoformer of a config, some of its sizes changed; `meta` makes no weights, no batch."""
    if config not in CONFIGS:
        raise ValueError(f"config is {config!r}, expected one of {', '.join(CONFIGS)}")
    chosen = replace(CONFIGS[config], **sizes)
    torch.manual_seed(seed)
    with torch.device("meta" if meta else "cpu"):
        model = Evoformer(chosen)
    return ss.Workload(
        step=step,
        model=model,
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=lr),
        batch=shapes(chosen) if meta else next(batches(chosen, seed)),
        data=lambda: batches(chosen, seed),
        seed=seed,
    )

"""Random small models: every kind of layer and of step that plans must get right."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import superscaler as ss

Batch = dict[str, Tensor]
Step = Callable[[Any, Batch], Any]

ACTIVATIONS = (F.relu, F.gelu, F.silu, torch.tanh, F.softplus)
WIDTHS = (4, 5, 6, 8, 9, 10, 12)
BATCHES = (3, 4, 5, 6, 6, 8, 8)
IGNORED = -100


def random_workload(rng: Random) -> ss.Workload:
    """A model of a random kind and size, with a batch, an optimizer and often gradient clipping."""
    torch.manual_seed(rng.randrange(1 << 30))
    kind = rng.choice(
        (residual, residual, transformer, transformer, images, twin, experts, recurrent)
    )
    step, model, batch = kind(rng)
    clip = rng.choice((None, None, 0.05, 0.5))
    return ss.Workload(step, model.double().train(), random_optimizer(rng), batch, clip)


def random_optimizer(rng: Random) -> Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]:
    """One of the element-wise optimizers with random settings."""
    optim = torch.optim
    decay = rng.choice((0.0, 0.01))
    return rng.choice(
        (
            lambda p: optim.SGD(p, lr=0.1),
            lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=decay > 0, weight_decay=decay),
            lambda p: optim.Adam(p, lr=1e-2, weight_decay=decay),
            lambda p: optim.AdamW(p, lr=1e-2, amsgrad=decay > 0),
            lambda p: optim.Adagrad(p, lr=1e-2),
            lambda p: optim.RMSprop(p, lr=1e-3, momentum=0.5, centered=decay > 0),
        )
    )


def _norm(rng: Random, width: int) -> nn.Module:
    kinds: list[Callable[[], nn.Module]] = [
        lambda: nn.LayerNorm(width),
        lambda: nn.LayerNorm(width, elementwise_affine=False),
        lambda: nn.RMSNorm(width, eps=1e-6),
        nn.Identity,
    ]
    return rng.choice(kinds)()


class Block(nn.Module):
    """norm, fc1, activation, dropout, fc2, added to what came in."""

    def __init__(self, rng: Random, width: int, dropout: float) -> None:
        super().__init__()
        inner = rng.choice((width, 2 * width, rng.choice(WIDTHS)))
        self.norm = _norm(rng, width)
        self.fc1 = nn.Linear(width, inner, bias=rng.random() < 0.7)
        self.fc2 = nn.Linear(inner, width, bias=rng.random() < 0.7)
        self.activation = rng.choice(ACTIVATIONS)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        y = self.activation(self.fc1(self.norm(x)))
        return x + self.fc2(F.dropout(y, self.dropout, self.training))


class Residual(nn.Module):
    """Blocks, of which one may be used twice, behind a frozen scale and before a head."""

    def __init__(self, rng: Random, width: int, out: int) -> None:
        super().__init__()
        dropout = rng.choice((0.0, 0.0, 0.3))
        self.blocks = nn.ModuleList(
            Block(rng, width, dropout) for _ in range(rng.choice((1, 2, 2, 3)))
        )
        self.repeat = rng.random() < 0.4
        self.scale = nn.Parameter(torch.randn(width), requires_grad=rng.random() < 0.5)
        self.register_buffer("shift", torch.randn(width))
        self.head = nn.Linear(width, out)
        if rng.random() < 0.3:
            self.unused = nn.Parameter(torch.randn(width))

    def forward(self, x: Tensor) -> Tensor:
        x = x * self.scale + self.shift
        for block in [*self.blocks, *([self.blocks[0]] if self.repeat else [])]:
            x = block(x)
        return self.head(x)


def residual(rng: Random) -> tuple[Step, nn.Module, Batch]:
    """An MLP with residuals on rows, or on sequences of them; several losses and metrics."""
    width, out = rng.choice(WIDTHS), rng.choice(WIDTHS)
    lead = (rng.choice(BATCHES), *([rng.choice((3, 4, 6))] if rng.random() < 0.4 else []))
    batch = {"x": torch.randn(*lead, width).double(), "y": torch.randn(*lead, out).double()}
    reduction = rng.choice(("mean", "mean", "sum", "rows"))

    def step(model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        error = model(batch["x"]) - batch["y"]
        if reduction == "rows":
            loss = error.square().sum(-1).sqrt().mean()
        else:
            loss = getattr(error.square(), reduction)()
        return loss, {"largest": error.detach().abs().amax(), "mean": error.detach().mean()}

    return step, Residual(rng, width, out), batch


class Attention(nn.Module):
    """Self-attention: one joint projection or three, causal, masked or neither."""

    def __init__(self, rng: Random, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.is_joint, self.is_causal = rng.random() < 0.5, rng.random() < 0.5
        self.dropout = rng.choice((0.0, 0.0, 0.2))
        shape = (width, 3 * width) if self.is_joint else (width, width)
        self.inputs = nn.ModuleList(nn.Linear(*shape) for _ in range(1 if self.is_joint else 3))
        self.out = nn.Linear(width, width, bias=rng.random() < 0.5)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        found = [layer(x) for layer in self.inputs]
        parts = found[0].chunk(3, -1) if self.is_joint else found
        q, k, v = (p.unflatten(-1, (self.heads, -1)).transpose(1, 2) for p in parts)
        is_causal = self.is_causal and mask is None
        y = F.scaled_dot_product_attention(q, k, v, mask, self.dropout, is_causal=is_causal)
        return self.out(y.transpose(1, 2).flatten(2))


class Layer(nn.Module):
    """Attention and an MLP block."""

    def __init__(self, rng: Random, width: int, heads: int) -> None:
        super().__init__()
        self.norm = _norm(rng, width)
        self.attention = Attention(rng, width, heads)
        self.mlp = Block(rng, width, rng.choice((0.0, 0.0, 0.2)))

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        return self.mlp(x + self.attention(self.norm(x), mask))


class Transformer(nn.Module):
    """Token and position embeddings, layers, and a head that is tied to the tokens or not."""

    def __init__(self, rng: Random, vocab: int, length: int) -> None:
        super().__init__()
        heads = rng.choice((1, 2, 3, 4))
        width = heads * rng.choice((2, 3, 4))
        self.tokens = nn.Embedding(vocab, width)
        self.positions = nn.Embedding(length, width)
        self.layers = nn.ModuleList(Layer(rng, width, heads) for _ in range(rng.choice((1, 1, 2))))
        self.norm = _norm(rng, width)
        self.head = nn.Linear(width, vocab, bias=False)
        if rng.random() < 0.6:
            self.head.weight = self.tokens.weight

    def forward(self, ids: Tensor, mask: Tensor | None) -> Tensor:
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1]))
        for layer in self.layers:
            x = layer(x, mask)
        return self.head(self.norm(x))


def transformer(rng: Random) -> tuple[Step, nn.Module, Batch]:
    """A language model, where some labels may be ignored."""
    rows, length, vocab = rng.choice(BATCHES), rng.choice((3, 4, 6, 8)), rng.choice((7, 8, 12, 15))
    ids = torch.randint(vocab, (rows, length))
    batch = {"ids": ids, "labels": ids.roll(-1, 1)}
    if rng.random() < 0.5:
        batch["labels"] = torch.where(torch.rand(rows, length) < 0.3, IGNORED, batch["labels"])
        batch["labels"][0, 0] = 1
    mask = rng.choice(("", "bool", "float"))
    if mask:
        keep = torch.rand(rows, 1, length, length) < 0.7
        keep |= torch.eye(length, dtype=torch.bool)
        batch["mask"] = keep if mask == "bool" else torch.randn(rows, 1, length, length).double()
    smoothing = rng.choice((0.0, 0.0, 0.1))

    def step(model: nn.Module, batch: Batch) -> Any:
        logits = model(batch["ids"], batch.get("mask")).flatten(0, 1)
        labels = batch["labels"].flatten()
        loss = F.cross_entropy(logits, labels, ignore_index=IGNORED, label_smoothing=smoothing)
        return loss, {"right": (logits.argmax(-1) == labels).double().sum()}

    return step, Transformer(rng, vocab, length), batch


class Images(nn.Module):
    """Convolutions with batch or group norm, pooled, and a classifier."""

    def __init__(self, rng: Random, channels: int, classes: int) -> None:
        super().__init__()
        middle = rng.choice((4, 6, 8))
        kinds = (
            nn.BatchNorm2d,
            nn.BatchNorm2d,
            lambda n: nn.GroupNorm(2, n),
            lambda n: nn.Identity(),
        )
        self.conv1 = nn.Conv2d(channels, middle, 3, padding=1, bias=rng.random() < 0.5)
        self.norm1 = rng.choice(kinds)(middle)
        self.conv2 = nn.Conv2d(middle, middle, 3, stride=rng.choice((1, 2)), padding=1)
        self.norm2 = rng.choice(kinds)(middle)
        self.is_max = rng.random() < 0.3
        self.head = nn.Linear(middle, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(x))
        x = F.relu(y + x) if y.shape == x.shape else F.relu(y)
        if self.is_max:
            x = F.max_pool2d(x, 2)
        return self.head(x.mean((2, 3)))


def images(rng: Random) -> tuple[Step, nn.Module, Batch]:
    """An image classifier."""
    rows, channels, classes = rng.choice(BATCHES), rng.choice((1, 3, 4)), rng.choice((3, 5, 6))
    size = rng.choice((4, 6))
    batch = {
        "x": torch.randn(rows, channels, size, size).double(),
        "labels": torch.randint(classes, (rows,)),
    }

    def step(model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        logits = model(batch["x"])
        loss = F.cross_entropy(logits, batch["labels"])
        return loss, {"accuracy": (logits.argmax(-1) == batch["labels"]).double().mean()}

    return step, Images(rng, channels, classes), batch


class Twin(nn.Module):
    """One encoder for two inputs, whose codes are compared all with all."""

    def __init__(self, rng: Random, width: int) -> None:
        super().__init__()
        code = rng.choice(WIDTHS)
        self.encoder = nn.Sequential(nn.Linear(width, code), nn.Tanh(), nn.Linear(code, code))
        self.heat = nn.Parameter(torch.tensor(1.5))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        x, y = (F.normalize(self.encoder(v), dim=-1) for v in (a, b))
        return self.heat.exp() * (x @ y.t())


def twin(rng: Random) -> tuple[Step, nn.Module, Batch]:
    """Contrastive learning: the batch meets itself, and the loss has two halves."""
    rows, width = rng.choice(BATCHES), rng.choice(WIDTHS)
    batch = {k: torch.randn(rows, width).double() for k in ("a", "b")}

    def step(model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        logits = model(batch["a"], batch["b"])
        right = torch.arange(logits.shape[0])
        one, other = F.cross_entropy(logits, right), F.cross_entropy(logits.t(), right)
        metrics = {"one": one.detach(), "other": other.detach(), "heat": model.heat.detach()}
        return (one + other) / 2, metrics

    return step, Twin(rng, width), batch


class Experts(nn.Module):
    """A soft mixture of experts: batched products and a gate."""

    def __init__(self, rng: Random, width: int) -> None:
        super().__init__()
        count, inner = rng.choice((2, 3, 4)), rng.choice(WIDTHS)
        self.gate = nn.Linear(width, count)
        self.up = nn.Parameter(torch.randn(count, width, inner) / 2)
        self.down = nn.Parameter(torch.randn(count, inner, width) / 2)
        self.activation = rng.choice(ACTIVATIONS)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        weight = F.softmax(self.gate(x), -1)
        y = self.activation(torch.einsum("bw,ewi->ebi", x, self.up))
        y = torch.einsum("ebi,eiw->ebw", y, self.down)
        return x + (y * weight.t()[..., None]).sum(0), weight


def experts(rng: Random) -> tuple[Step, nn.Module, Batch]:
    """Experts with a second loss that balances them."""
    rows, width = rng.choice(BATCHES), rng.choice(WIDTHS)
    batch = {k: torch.randn(rows, width).double() for k in ("x", "y")}

    def step(model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        y, weight = model(batch["x"])
        balance = weight.mean(0).square().sum()
        return F.mse_loss(y, batch["y"]) + 0.1 * balance, {"balance": balance.detach()}

    return step, Experts(rng, width), batch


class Recurrent(nn.Module):
    """One cell for every position, its states put side by side."""

    def __init__(self, rng: Random, width: int, out: int) -> None:
        super().__init__()
        self.state = rng.choice((4, 6, 7))
        self.enter = nn.Linear(width, self.state)
        self.again = nn.Linear(self.state, self.state, bias=False)
        self.head = nn.Linear(self.state, out)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(x.shape[0], self.state)
        states = []
        for t in range(x.shape[1]):
            h = torch.tanh(self.enter(x[:, t]) + self.again(h))
            states.append(h)
        return self.head(torch.stack(states, 1))


def recurrent(rng: Random) -> tuple[Step, nn.Module, Batch]:
    """A recurrent network unrolled over a few positions."""
    rows, length = rng.choice(BATCHES), rng.choice((2, 3))
    width, out = rng.choice(WIDTHS), rng.choice(WIDTHS)
    x, y = torch.randn(rows, length, width).double(), torch.randn(rows, length, out).double()

    def step(model: nn.Module, batch: Batch) -> Tensor:
        return F.smooth_l1_loss(model(batch["x"]), batch["y"])

    return step, Recurrent(rng, width, out), {"x": x, "y": y}

"""Small models of every kind agree with plain PyTorch in everything a step leaves behind."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from compare import adamw, compare
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from superscaler.graph.tensor import TensorKind

pytestmark = pytest.mark.usefixtures("double")


def _classify(model: nn.Module, batch: Any) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1])


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(8, 16)
        self.drop = nn.Dropout(0.3)
        self.fc2 = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.drop(F.gelu(self.fc1(x))))


class Block(nn.Module):
    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.ln1, self.ln2 = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.qkv, self.proj = nn.Linear(hidden, 3 * hidden), nn.Linear(hidden, hidden)
        self.fc1, self.fc2 = nn.Linear(hidden, 4 * hidden), nn.Linear(4 * hidden, hidden)

    def forward(self, x: Tensor) -> Tensor:
        b, t, h = x.shape
        parts = self.qkv(self.ln1(x)).chunk(3, -1)
        q, k, v = (p.view(b, t, self.heads, -1).transpose(1, 2) for p in parts)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=0.1)
        x = x + self.proj(y.transpose(1, 2).reshape(b, t, h))
        return x + self.fc2(F.gelu(self.fc1(self.ln2(x))))


class Gpt(nn.Module):
    def __init__(self, vocab: int = 32, hidden: int = 16, layers: int = 2) -> None:
        super().__init__()
        self.wte = nn.Embedding(vocab, hidden, padding_idx=0)
        self.wpe = nn.Embedding(6, hidden)
        self.layers = nn.ModuleList(Block(hidden, 4) for _ in range(layers))
        self.head = nn.Linear(hidden, vocab, bias=False)
        self.head.weight = self.wte.weight

    def forward(self, ids: Tensor) -> Tensor:
        x = self.wte(ids) + self.wpe(torch.arange(ids.shape[1], device=ids.device))
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


class Conv(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(4)
        self.plain = nn.BatchNorm2d(4, affine=False, track_running_stats=False)
        self.frozen = nn.BatchNorm2d(4).eval().requires_grad_(False)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(4, 5)
        self.unused = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.frozen(self.plain(F.relu(self.bn(self.conv(x)))))
        return self.fc(F.dropout2d(self.pool(x), 0.2).flatten(1))


class Random(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8)
        self.drop = nn.Dropout(0.5)
        self.attention = nn.MultiheadAttention(8, 2, dropout=0.2, batch_first=True)
        self.recurrent = nn.LSTM(8, 8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x = checkpoint(lambda y: self.drop(self.a(y)), x, use_reentrant=False)
        x = F.dropout(x, 0.1) + F.dropout(x, 0.0) + F.dropout(x, 0.9, training=False)
        x = checkpoint(lambda y: self.drop(self.b(y)), x, use_reentrant=False)
        x = x + torch.randn_like(x) * torch.rand(4, 6, 1) + torch.randint(0, 3, (8,))
        x = x * torch.empty(4, 1, 1).bernoulli_(0.8)
        x = x[torch.randperm(4)] + torch.empty_like(x).exponential_(2.0).log()
        x = self.recurrent(self.attention(x, x, x)[0])[0]
        return F.scaled_dot_product_attention(x, x, x, dropout_p=0.3)


def _mlp_step(model: nn.Module, batch: dict[str, Tensor]) -> Any:
    out = model(batch["x"])
    loss = F.cross_entropy(out, batch["y"])
    return loss, {"accuracy": (out.argmax(-1) == batch["y"]).double().mean(), "same": loss}


def _mlp_batch() -> dict[str, Tensor]:
    return {"x": torch.randn(6, 8), "y": torch.randint(5, (6,))}


def test_mlp_with_metrics() -> None:
    graph = compare(_mlp_step, Mlp(), _mlp_batch(), steps=3)
    assert [name for name, _ in graph.metrics] == ["accuracy", "same"]
    assert graph.metrics[1][1] == graph.loss
    assert [graph.tensors[t].name for t in graph.batch] == ["x", "y"]


def test_gpt_with_tied_weights_and_padding() -> None:
    ids = torch.randint(32, (4, 6))
    ids[:, -1] = 0
    graph = compare(
        lambda model, batch: F.cross_entropy(model(batch).flatten(0, 1), batch.flatten()),
        Gpt(),
        ids,
    )
    assert graph.aliases == {"head.weight": "wte.weight"}
    assert [graph.tensors[t].name for t in graph.batch] == ["batch"]
    qkv = [op for op in graph.operators if op.module == "layers.0" and "unbind" in op.target]
    assert graph.tensors[qkv[0].inputs[0]].shape == (4, 6, 3, 16)


def test_convolution_and_batch_norm() -> None:
    batch = (torch.randn(4, 3, 8, 8), torch.randint(5, (4,)))
    graph = compare(_classify, Conv(), batch, steps=3)
    changed = {graph.tensors[b].name for b in graph.buffers}
    assert changed == {"bn.running_mean", "bn.running_var", "bn.num_batches_tracked"}
    updated = {graph.tensors[u.param].name for u in graph.updates}
    assert updated == {"conv.weight", "bn.weight", "bn.bias", "fc.weight", "fc.bias"}
    assert graph.by_name["unused.weight"].kind is TensorKind.PARAM
    assert graph.by_name["frozen.weight"].id in graph.consumers


def test_randomness_of_every_kind_and_checkpointing() -> None:
    graph = compare(lambda model, x: model(x).square().sum(), Random(), torch.randn(4, 6, 8))
    draws = [
        op.args[1] if "uniform" in op.target else op.args[2]
        for op in graph.operators
        if op.target in ("superscaler.dropout.default", "superscaler.uniform.default")
        if op.phase.value == "forward"
    ]
    assert draws == sorted(set(draws))


@pytest.mark.parametrize(
    "layer",
    [
        nn.LSTM(8, 8, 3, dropout=0.4, batch_first=True),
        nn.GRU(8, 4, 2, dropout=0.4, bidirectional=True),
        nn.RNN(8, 8, 2, dropout=0.4, bias=False),
    ],
)
def test_dropout_between_recurrent_layers(layer: nn.Module) -> None:
    def step(model: nn.Module, x: Tensor) -> Tensor:
        out, last = model(x)
        return out.square().sum() + sum(state.sum() for state in last)

    graph = compare(step, layer.double(), torch.randn(4, 5, 8))
    draws = [op for op in graph.operators if op.target == "superscaler.dropout.default"]
    assert draws


def test_a_linear_layer_is_changed_in_place() -> None:
    def step(model: nn.Module, x: Tensor) -> Tensor:
        y = model(x)
        y *= 2
        y[:, 0] = 0
        return y.square().sum()

    compare(step, nn.Linear(8, 8, bias=False), torch.randn(4, 5, 8))


class Seq2Seq(nn.Module):
    """Masks without a hint of what they are: torch would look at their values."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Transformer(8, 2, 1, 1, 16, dropout=0.0, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        causal = self.body.generate_square_subsequent_mask(x.shape[1])
        seen = torch.ones(5, 5, dtype=torch.bool).tril(1).logical_not()
        out: Tensor = self.body(x, x, src_mask=seen, tgt_mask=causal)
        return out


def test_transformer_with_masks() -> None:
    compare(lambda model, x: model(x).square().sum(), Seq2Seq(), torch.randn(4, 5, 8))


class Center(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)
        self.center = nn.Buffer(torch.zeros(8))
        self.count = nn.Buffer(torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc(x)
        self.count += 1
        self.center = self.center * 0.9 + x.detach().mean(0) * 0.1
        return x - self.center


def test_a_view_of_what_attention_lays_out() -> None:
    """Its kernel on a CPU, for float32, puts the heads of a token beside each other; ours does not,
    and the view of a user's model has to copy there."""

    def step(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        heads = model(batch).view(5, 2, 3, 4).permute(1, 2, 0, 3)
        found = nn.functional.scaled_dot_product_attention(heads, heads, heads)
        return found.permute(2, 0, 1, 3).view(10, 12).square().mean()

    torch.manual_seed(0)
    compare(step, nn.Linear(12, 12), torch.randn(5, 2, 12), tolerance=1e-5)


def test_buffers_that_are_bound_to_new_tensors() -> None:
    compare(lambda model, x: model(x).square().sum(), Center(), torch.randn(4, 8), steps=3)


def test_in_evaluation_mode() -> None:
    graph = compare(_classify, Mlp().eval(), (torch.randn(4, 8), torch.randint(5, (4,))))
    assert not [op for op in graph.operators if "dropout" in op.target]
    batch = (torch.randn(4, 3, 8, 8), torch.randint(5, (4,)))
    assert not compare(_classify, Conv().eval(), batch).buffers


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_and_half_precision(dtype: torch.dtype) -> None:
    """bfloat16 has 8 bits: an addition in another order is another last bit."""

    def step(model: nn.Module, batch: Any) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.float32):
            return _classify(model, batch)

    class Norms(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mlp, self.ln, self.bn = Mlp(), nn.LayerNorm(8), nn.BatchNorm1d(8)

        def forward(self, x: Tensor) -> Tensor:
            return self.mlp(self.bn(self.ln(x)))

    batch = (torch.randn(6, 8, dtype=dtype), torch.randint(5, (6,)))
    graph = compare(step, Norms().to(dtype), batch, tolerance=0.1)
    products = [op for op in graph.operators if op.target == "aten.mm.default"]
    assert {graph.tensors[op.outputs[0]].dtype for op in products} == {torch.bfloat16}


@pytest.mark.parametrize(
    ("optimizer", "states"),
    [
        (lambda p: torch.optim.SGD(p, lr=0.1), []),
        (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True), ["momentum_buffer"]),
        (lambda p: torch.optim.Adam(p, foreach=True), ["exp_avg", "exp_avg_sq"]),
        (lambda p: torch.optim.AdamW(p, fused=True), ["exp_avg", "exp_avg_sq"]),
        (lambda p: torch.optim.Adagrad(p), ["sum"]),
        (lambda p: torch.optim.RMSprop(p, momentum=0.5), ["square_avg", "momentum_buffer"]),
    ],
)
def test_optimizers_with_clipping(optimizer: Any, states: list[str]) -> None:
    graph = compare(_mlp_step, Mlp(), _mlp_batch(), optimizer, steps=3, clip_grad_norm=0.01)
    for update in graph.updates:
        assert [name for name, _, _ in update.states] == states
        assert graph.operators[update.operator].outputs[0] == update.new_param


def test_half_precision_gradients_are_clipped() -> None:
    batch = {"x": torch.randn(6, 8).bfloat16(), "y": torch.randint(5, (6,))}
    compare(_mlp_step, Mlp().bfloat16(), batch, adamw, tolerance=0.1, clip_grad_norm=0.01)


def test_groups_of_parameters() -> None:
    def optimizer(parameters: Any) -> torch.optim.Optimizer:
        parameters = list(parameters)
        decayed = [p for p in parameters if p.dim() > 1]
        others = [p for p in parameters if p.dim() <= 1]
        return torch.optim.AdamW([{"params": decayed}, {"params": others, "weight_decay": 0.0}])

    compare(_mlp_step, Mlp(), _mlp_batch(), optimizer)


def test_constants_of_code_and_batch() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 5)
            self.mean = torch.tensor([0.4, 0.5, 0.6])

        def forward(self, x: Tensor) -> Tensor:
            return self.fc((x - self.mean) / torch.tensor(0.2)) * torch.arange(5) / 2

    def step(model: nn.Module, batch: Any) -> Tensor:
        assert batch["kind"] == "train"
        return F.cross_entropy(model(batch["x"]), batch["y"]) * batch["scale"]

    batch = {"x": torch.randn(4, 3), "y": torch.randint(5, (4,)), "scale": 3, "kind": "train"}
    graph = compare(step, Scaled(), batch)
    assert graph.batch[2:] == (-1, -1)


def test_the_default_dtype_of_the_step_is_part_of_the_graph() -> None:
    def step(model: nn.Module, batch: Any) -> Tensor:
        torch.set_default_dtype(torch.float64)
        loss = _classify(model, batch) + (torch.arange(3) / 2).sum() + torch.full((), 1e-300)
        torch.set_default_dtype(torch.float32)
        return loss

    torch.set_default_dtype(torch.float32)
    batch = (torch.randn(4, 8).double(), torch.randint(5, (4,)))
    graph = compare(step, Mlp().double(), batch)
    assert graph.tensors[graph.loss].dtype == torch.float64
    assert torch.get_default_dtype() == torch.float32

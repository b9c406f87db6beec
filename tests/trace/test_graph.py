"""The traced graph itself: names, text, determinism, meta models of any size."""

from __future__ import annotations

import resource
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import treespec_dumps, treespec_loads

from superscaler.graph.graph import Graph
from superscaler.graph.operator import Phase
from superscaler.graph.tensor import TensorKind
from superscaler.graph.text import to_text
from superscaler.trace import trace

GOLDEN = Path(__file__).parents[1] / "golden" / "tiny_mlp.txt"


class TinyMlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(4, 8)
        self.drop = nn.Dropout(0.1)
        self.fc2 = nn.Linear(8, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.drop(F.relu(self.fc1(x))))


def tiny_step(model: nn.Module, batch: dict[str, Tensor]) -> Any:
    out = model(batch["x"])
    return F.mse_loss(out, batch["y"]), {"largest": out.amax()}


def _sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


def _tiny_graph(clip_grad_norm: float | None = None) -> Graph:
    with torch.device("meta"):
        model = TinyMlp()
        batch = {"x": torch.empty(2, 5, 4), "y": torch.empty(2, 5, 3)}
    return trace(tiny_step, model, batch, _sgd, clip_grad_norm=clip_grad_norm)


def test_text_of_a_tiny_mlp() -> None:
    """To renew the golden file, delete it and run this once."""
    text = to_text(_tiny_graph())
    if not GOLDEN.exists():
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()


def test_tracing_twice_gives_equal_graphs() -> None:
    first, second = _tiny_graph(1.0), _tiny_graph(1.0)
    assert first == second
    assert to_text(first) == to_text(second)
    assert treespec_loads(treespec_dumps(first.batch_spec)) == first.batch_spec


def test_ids_are_positions_and_operators_are_sorted() -> None:
    graph = _tiny_graph(1.0)
    assert [t.id for t in graph.tensors] == list(range(len(graph.tensors)))
    assert [op.id for op in graph.operators] == list(range(len(graph.operators)))
    assert len({t.name for t in graph.tensors}) == len(graph.tensors)
    assert len({op.name for op in graph.operators}) == len(graph.operators)
    made = {t.id for t in graph.tensors if t.kind is not TensorKind.VALUE}
    for op in graph.operators:
        assert made.issuperset(op.inputs)
        made.update(op.outputs)
        assert op.forward < op.id
    assert made.issuperset(graph.results)
    phases = [op.phase for op in graph.operators]
    assert phases.index(Phase.UPDATE) + len(graph.updates) == len(phases)


def test_clipping_has_the_names_of_its_parameters() -> None:
    graph = _tiny_graph(1.0)
    names = {op.name for op in graph.operators if op.module == "clip_grad_norm"}
    assert {"fc1.weight.norm.sum", "fc1.weight.clip", "fc2.weight.clip"} <= names
    assert graph.tensors[graph.grad_norm].shape == ()
    clipped = {graph.operators[graph.producer[u.grad][0]].name for u in graph.updates}
    assert clipped == {"fc1.weight.clip", "fc1.bias.clip", "fc2.weight.clip"}


class Layer(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden)
        self.qkv = nn.Linear(hidden, 3 * hidden)
        self.proj = nn.Linear(hidden, hidden)

    def forward(self, x: Tensor) -> Tensor:
        b, t, h = x.shape
        q, k, v = (
            y.view(b, t, -1, 128).transpose(1, 2) for y in self.qkv(self.norm(x)).chunk(3, -1)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return x + self.proj(y.transpose(1, 2).reshape(b, t, h))


def test_a_large_model_on_meta_takes_no_memory() -> None:
    with torch.device("meta"):
        model = nn.Sequential(*(Layer(12288) for _ in range(6)))
        batch = torch.empty(64, 2048, 12288)
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    graph = trace(lambda m, x: m(x).mean(), model, batch, _sgd)
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert sum(t.num_bytes for t in graph.of_kind(TensorKind.PARAM)) > 14e9
    assert grown_kib < 300 * 1024
    assert time.perf_counter() - start < 30  # 0.8 s on one core
    per_layer = [
        op for op in graph.operators if op.module.startswith("3") and op.phase is not Phase.UPDATE
    ]
    assert len(per_layer) <= 48

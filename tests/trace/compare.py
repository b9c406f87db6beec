"""A traced graph, executed whole, against the untouched model trained by plain PyTorch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from superscaler.graph.evaluate import evaluate
from superscaler.graph.graph import Graph
from superscaler.runtime import kernels
from superscaler.runtime.reference import Reference, train_reference
from superscaler.trace import trace
from superscaler.verify.accuracy import widened

SEED = 3


def adamw(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """A large epsilon: it does not blow up gradients that are zero but for rounding."""
    return torch.optim.AdamW(parameters, lr=1e-2, eps=1e-3)


class Trainer:
    """Executes a graph step after step; a real optimizer does what its update operators say."""

    def __init__(self, graph: Graph, model: nn.Module, optimizer: Callable[..., Any]) -> None:
        self.graph = graph
        self.values: dict[int, Tensor] = {}
        named = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        for tensor in graph.tensors:
            if tensor.name in named:
                self.values[tensor.id] = named[tensor.name].detach().clone()
        self.parameters = {u.param: nn.Parameter(self.values[u.param]) for u in graph.updates}
        self.optimizer = optimizer(list(self.parameters.values()))
        self.result: dict[int, Tensor] = {}

    def step(self, batch: Any, number: int) -> None:
        kernels.set_random(SEED, number)
        leaves = zip(self.graph.batch, tree_leaves(batch))
        inputs = {tensor: leaf for tensor, leaf in leaves if tensor >= 0}
        self.result = evaluate(self.graph, {**self.values, **inputs})
        for update in self.graph.updates:
            self.parameters[update.param].grad = self.result[update.grad].clone()
        self.optimizer.step()
        for update in self.graph.updates:
            parameter = self.parameters[update.param]
            self.values[update.param] = parameter.detach()
            for name, _, new in update.states:
                self.result[new] = self.optimizer.state[parameter][name]
        for old, new in self.graph.buffers.items():
            self.values[old] = self.result[new]


def compare(
    step: Callable[[Any, Any], Any],
    model: nn.Module,
    batch: Any,
    optimizer: Callable[..., Any] = adamw,
    *,
    steps: int = 2,
    tolerance: float = 1e-10,
    clip_grad_norm: float | None = None,
) -> Graph:
    """Trace, train both ways, and assert that everything agrees; the graph."""
    graph = trace(step, model, batch, optimizer, clip_grad_norm=clip_grad_norm)
    trainer = Trainer(graph, model, optimizer)
    for number in range(steps):
        trainer.step(batch, number)
    reference = train_reference(
        step, copy.deepcopy(model), optimizer, batch, steps, SEED, clip_grad_norm
    )
    assert_equal(trainer, reference, tolerance)
    return graph


def assert_equal(trainer: Trainer, reference: Reference, tolerance: float) -> None:
    graph, result = trainer.graph, trainer.result
    expected = {"loss": reference.loss, **reference.metrics}
    found = {"loss": result[graph.loss], **{name: result[t] for name, t in graph.metrics}}
    if reference.grad_norm is not None:
        expected["grad_norm"] = reference.grad_norm
        found["grad_norm"] = result[graph.grad_norm]
    for update in graph.updates:
        name = graph.tensors[update.param].name
        found[f"{name} grad"] = result[update.grad]
        for state, _, new in update.states:
            found[f"{name} {state}"] = result[new]
    for name, grad in reference.grads.items():
        expected[f"{name} grad"] = grad
        for state, value in reference.states[name].items():
            expected[f"{name} {state}"] = value
    for named in (reference.parameters, reference.buffers):
        for name, value in named.items():
            expected[name] = value
            found[name] = trainer.values[graph.by_name[name].id]
    assert set(found) == set(expected)
    # Gradients that nearly cancel are judged against the largest one.
    largest = max(g.abs().max().item() for g in reference.grads.values())
    floor = largest * (1e-3 if tolerance < 1e-6 else 1.0)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype or name == "grad_norm", name
        scale = max(value.abs().max().item(), floor) if value.numel() else 1.0
        apart = widened(found[name]) - widened(value)
        error = apart.abs().max().item() if value.numel() else 0.0
        assert error <= tolerance * scale, f"{name}: error {error:.2e}, scale {scale:.2e}"

"""From a step and a model to a program, by way of the cache."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from superscaler.compiler import compile
from superscaler.dtypes import dtype_name
from superscaler.graph.text import to_text
from superscaler.parallelize.cache import Entry, content_key
from superscaler.runtime.program import Source
from superscaler.trace import trace

if TYPE_CHECKING:
    from superscaler.cluster import Cluster
    from superscaler.graph.graph import Graph
    from superscaler.plan import Plan

OptimizerFactory = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]


def make_program(
    step: Callable[[Any, Any], Any],
    model: nn.Module,
    batch: Any,
    optimizer: OptimizerFactory,
    clip_grad_norm: float | None,
    plan: Plan,
    cluster: Cluster | None,
    cache: Path | None,
) -> tuple[Source, str]:
    """The program of a step under a plan, and how it was come by.

    It is taken from the cache if an equal graph was compiled there under an equal plan, by the
    same versions of superscaler and torch.
    """
    observed = _Observed(step)
    graph = trace(observed, model, batch, optimizer, clip_grad_norm=clip_grad_norm)
    types = _types(graph, observed.is_pair)
    key = content_key(
        to_text(graph),
        repr(graph.batch_spec),
        str(graph.batch),
        str(graph.constants),
        str(graph.optimized),
        plan.to_yaml(),
        repr(cluster),
        str(types),
    )
    entry = Entry(cache / f"{getattr(step, '__name__', 'step')}-{key}", key) if cache else None
    damage = entry.damage() if entry else None
    if entry is not None and damage is None:
        return entry.folder, f"found in the cache, {entry.folder},"
    program = compile(graph, plan, cluster, header={"types": types, "key": key})
    if entry is None:
        return program.files, "compiled"
    entry.write(program.files)
    again = f"compiled again ({damage})" if entry.was_there else "compiled"
    return entry.folder, f"{again} into {entry.folder}"


class _Observed:
    """The step; remembers whether it returns metrics beside the loss."""

    def __init__(self, step: Callable[[Any, Any], Any]) -> None:
        self.is_pair = False
        self._step = step

    def __call__(self, model: Any, batch: Any) -> Any:
        result = self._step(model, batch)
        self.is_pair = isinstance(result, tuple)
        return result


def _types(graph: Graph, is_pair: bool) -> dict[str, Any]:
    """The dtypes of what the step returns."""

    def name(tensor: int) -> str:
        return dtype_name(graph.tensors[tensor].dtype)

    metrics = {metric: name(tensor) for metric, tensor in graph.metrics}
    return {"loss": name(graph.loss), "metrics": metrics, "is_pair": is_pair}

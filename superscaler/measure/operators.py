"""Measure: the operators of a real training step, timed one by one."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.utils._pytree as pytree

from superscaler.cluster.measure import settle
from superscaler.cluster.profile import OperatorTime
from superscaler.graph.evaluate import evaluate
from superscaler.graph.graph import Graph
from superscaler.graph.tensor import TensorKind
from superscaler.measure.timer import Timer
from superscaler.simulate.recording.work import work_of

REPEATS = 5


def measure_operators(
    graph: Graph, state: Mapping[str, torch.Tensor], batch: Any
) -> tuple[OperatorTime, ...]:
    """The median time of every distinct operator of the step, run whole in this process.

    `state` are parameters and buffers by name; `batch` as the step takes it.
    """
    values = {
        t.id: state[t.name]
        for kind in (TensorKind.PARAM, TensorKind.BUFFER)
        for t in graph.of_kind(kind)
    }
    leaves = pytree.tree_leaves(batch)
    values.update({t: leaf for t, leaf in zip(graph.batch, leaves) if t >= 0})
    timer = _Repeating()
    with timer:
        evaluate(graph, values)
    return timer.operators()


class _Repeating(Timer):  # type: ignore[no-untyped-call]
    """Runs every operator several times and remembers how long each took."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result, first = _timed(lambda: func(*args, **kwargs))
        work = work_of(func, args, kwargs, result)
        if work is not None:
            times = self.times.setdefault(work, [])
            if not func._schema.is_mutable and len(times) < 2 * REPEATS:
                times += [_timed(lambda: func(*args, **kwargs))[1] for _ in range(REPEATS)]
            elif not times:
                times.append(first)
        return result


def _timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """A call's result, and its time in microseconds."""
    settle()
    begun = time.perf_counter()
    result = call()
    settle()
    return result, (time.perf_counter() - begun) * 1e6

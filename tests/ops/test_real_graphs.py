"""Rules on the operators of real joint graphs, with the values that occur in them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from parts import Instance, check, execute
from torch.utils._pytree import tree_flatten

from superscaler.graph.graph import Graph
from superscaler.graph.operator import Operator
from superscaler.graph.tensor import TensorKind
from superscaler.ops import Call
from superscaler.trace import trace
from superscaler.workload import Workload, cast, load_workload

MODELS = Path(__file__).parents[1] / "models"
FAMILIES = {
    "gpt2": {"layers": 1},
    "llama": {"layers": 1},
    "bert": {"layers": 1},
    "t5": {"layers": 1},
    "swin": {},
    "whisper": {"layers": 1},
    "mixtral": {"layers": 1},
    "resnet": {},
}
WITHOUT_RUN = ("superscaler.update",)  # the optimizer's own


def traced(family: str) -> tuple[Workload, Graph]:
    workload = cast(
        load_workload(f"{MODELS / family}.py:{family}", FAMILIES[family]), torch.float64
    )
    return workload, trace(workload.step, workload.model, workload.batch, workload.optimizer)


def given_values(workload: Workload, graph: Graph) -> dict[int, torch.Tensor]:
    """The tensors that exist before the step, by id."""
    model = workload.model
    named = dict(model.named_parameters()) | dict(model.named_buffers())
    values = {
        t.id: named[t.name].detach()
        for t in graph.tensors
        if t.kind in (TensorKind.PARAM, TensorKind.BUFFER)
    }
    leaves = tree_flatten(workload.batch)[0]
    return values | {t: leaf for t, leaf in zip(graph.batch, leaves) if t >= 0}


def instances(workload: Workload, graph: Graph) -> Iterator[Instance]:
    """Every operator's call on its real inputs, each kind of call once."""
    values = given_values(workload, graph)
    seen = set()
    for op in graph.operators:
        if op.target.startswith(WITHOUT_RUN):
            continue
        inputs = tuple(values[i] for i in op.inputs)
        values |= zip(op.outputs, run(op, inputs))
        key = (op.target, repr(op.args), repr(op.kwargs), tuple(x.shape for x in inputs))
        if key not in seen:
            seen.add(key)
            yield Instance(op.target, op.args, op.kwargs, inputs)


def run(op: Operator, inputs: tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
    target = op.target.replace("aten.view.default", "aten.reshape.default")
    return [x.contiguous() for x in execute(Call(target, op.args, op.kwargs), inputs)]


@pytest.mark.parametrize("family", FAMILIES)
def test_parts_of_real_operators_are_the_whole(family):
    for one in instances(*traced(family)):
        check(one, rtol=1e-9)

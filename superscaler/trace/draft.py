"""Drafts: the graph while it is being built, before dead code goes and names are given."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from superscaler.graph.operator import Operator, Phase, Ref, map_refs
from superscaler.graph.tensor import PTensor, TensorKind
from superscaler.trace.names import Namer, base_name


@dataclass(frozen=True)
class Value:
    """Stands in a call's arguments for the drafted tensor `id`."""

    id: int


@dataclass
class TensorDraft:
    shape: tuple[int, ...]
    dtype: torch.dtype
    kind: TensorKind = TensorKind.VALUE
    name: str = ""
    producer: int = -1  # the drafted operator that makes it


@dataclass(frozen=True)
class Node:
    """The number of an autograd node, and what tells operators of one call of the user's from those
    of another: what follows a node without one of its own has the same number."""

    number: int
    call: str


@dataclass
class OperatorDraft:
    """An operator; `node` is the one of autograd's that it is part of, or the backward of."""

    target: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    phase: Phase = Phase.FORWARD
    module: str = ""
    source: str = ""
    forward: int = -1
    name: str = ""  # "" to be named after module and target
    node: Node | None = None
    sums_gradients: bool = False


@dataclass
class Draft:
    """The tensors and operators drafted so far, in topological order."""

    tensors: list[TensorDraft] = field(default_factory=list)
    operators: list[OperatorDraft] = field(default_factory=list)
    known: dict[Any, tuple[int, ...]] = field(default_factory=dict)  # a call -> what it makes
    nodes: list[tuple[Node, int]] = field(default_factory=list)  # each with an operator, in turn

    def tensor(
        self,
        shape: tuple[int, ...],
        dtype: torch.dtype,
        kind: TensorKind = TensorKind.VALUE,
        name: str = "",
    ) -> int:
        """A new tensor's number."""
        self.tensors.append(TensorDraft(tuple(shape), dtype, kind, name))
        return len(self.tensors) - 1

    def call(
        self,
        target: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        outputs: list[tuple[tuple[int, ...], torch.dtype]],
        **details: Any,
    ) -> tuple[int, ...]:
        """Append an operator; `args` and `kwargs` hold Values; the numbers of its outputs.

        The same call on the same tensors is made once in each phase, so that its readers share
        one tensor (and what it takes to bring it to them).
        """
        inputs: list[int] = []
        args, kwargs = _number_inputs((args, kwargs), inputs)
        same = (details.get("phase"), target, repr(args), repr(kwargs), tuple(inputs))
        if same not in self.known:
            self.known[same] = tuple(self.tensor(*output) for output in outputs)
            for result in self.known[same]:
                self.tensors[result].producer = len(self.operators)
            self.operators.append(
                OperatorDraft(target, args, kwargs, tuple(inputs), self.known[same], **details)
            )
        results = self.known[same]
        if node := details.get("node"):
            self.nodes.append((node, self.tensors[results[0]].producer))
        return results

    def producer(self, tensor: int) -> OperatorDraft | None:
        """The operator that makes a tensor."""
        number = self.tensors[tensor].producer
        return self.operators[number] if number >= 0 else None


def _number_inputs(template: Any, inputs: list[int]) -> Any:
    """The template with every Value replaced by a Ref; the values' ids go to `inputs`."""
    if isinstance(template, Value):
        inputs.append(template.id)
        return Ref(len(inputs) - 1)
    if isinstance(template, (tuple, list)):
        return type(template)(_number_inputs(item, inputs) for item in template)
    if isinstance(template, dict):
        return {key: _number_inputs(item, inputs) for key, item in template.items()}
    return template


def live_operators(draft: Draft, results: list[int]) -> list[int]:
    """The operators that the results need, in order."""
    needed = set(results)
    live: list[int] = []
    for number in range(len(draft.operators) - 1, -1, -1):
        operator = draft.operators[number]
        if any(output in needed for output in operator.outputs):
            live.append(number)
            needed.update(operator.inputs)
    return live[::-1]


@dataclass(frozen=True)
class Finished:
    """The final tensors and operators, and the drafts' numbers -> the final ids."""

    tensors: tuple[PTensor, ...]
    operators: tuple[Operator, ...]
    tensor_ids: dict[int, int]
    operator_ids: dict[int, int]


def finish(draft: Draft, results: list[int], titles: dict[int, str]) -> Finished:
    """Drop what no result needs; number and name what is left.

    `titles` are names wanted for results that an operator makes. Tensors that exist before the
    step come first, then every operator's outputs.
    """
    live = live_operators(draft, results)
    given = [i for i, t in enumerate(draft.tensors) if t.kind is not TensorKind.VALUE]
    namer = Namer(draft.tensors[i].name for i in given)
    tensor_ids = {number: position for position, number in enumerate(given)}
    operator_ids = {number: position for position, number in enumerate(live)}
    tensors = [
        _final_tensor(draft.tensors[i], k, draft.tensors[i].name) for k, i in enumerate(given)
    ]
    names = _operator_names(draft, live, titles, namer)
    operators = []
    for number, name in zip(live, names, strict=True):
        operator = draft.operators[number]
        for k, output in enumerate(operator.outputs):
            tensor_ids[output] = len(tensors)
            own = name if k == 0 else namer.unique(f"{name}.{k}")
            tensors.append(_final_tensor(draft.tensors[output], len(tensors), own))
        operators.append(
            Operator(
                id=operator_ids[number],
                name=name,
                target=operator.target,
                args=map_refs(operator.args, lambda ref: ref),
                kwargs=operator.kwargs,
                inputs=tuple(tensor_ids[i] for i in operator.inputs),
                outputs=tuple(tensor_ids[o] for o in operator.outputs),
                phase=operator.phase,
                module=operator.module,
                source=operator.source,
                forward=operator_ids.get(operator.forward, -1),
            )
        )
    return Finished(tuple(tensors), tuple(operators), tensor_ids, operator_ids)


def _operator_names(
    draft: Draft, live: list[int], titles: dict[int, str], namer: Namer
) -> list[str]:
    """Titles first, so that no operator takes the name of a result."""
    titled = {}
    for tensor, title in titles.items():
        producer = draft.tensors[tensor].producer
        if (
            producer >= 0
            and draft.operators[producer].outputs[0] == tensor
            and producer not in titled
        ):
            titled[producer] = namer.unique(title)
    return [
        titled[number] if number in titled else namer.unique(base_name(draft.operators[number]))
        for number in live
    ]


def _final_tensor(tensor: TensorDraft, tensor_id: int, name: str) -> PTensor:
    return PTensor(tensor_id, name, tensor.shape, tensor.dtype, tensor.kind)

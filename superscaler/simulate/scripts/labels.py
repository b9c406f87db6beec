"""Labels: what values, functions and working memory are, in words a user knows."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from superscaler.emit.listing import Listing
from superscaler.graph.operator import Phase
from superscaler.graph.tensor import TensorKind
from superscaler.materialize.dependencies import value_name
from superscaler.materialize.program import Program
from superscaler.ops.copies import TO_DEVICE
from superscaler.simulate.scripts.script import SHARING
from superscaler.transform.partition import MICROBATCH

_LABEL = re.compile(r"(?:before_barrier_)?(forward|backward|weight|update)(?:_(\d+))?")
_KINDS = {"forward": "F", "backward": "B", "weight": "W", "update": "U"}


@dataclass
class Labels:
    """The labels of one program."""

    program: Program
    listing: Listing
    tensor_of: dict[str, int] = field(default_factory=dict)  # value name -> tensor
    gradients: set[int] = field(default_factory=set)
    splits: set[int] = field(default_factory=set)  # stages with weight gradients apart

    def __post_init__(self) -> None:
        partition = self.program.partition
        graph = partition.graph
        for tensor in graph.producer:
            self.tensor_of[value_name(partition, tensor)] = tensor
        for tensor, totals in self.program.accumulated.items():
            self.tensor_of.update({name: tensor for name, _, _ in totals})
        for c in self.program.conversions:
            self.tensor_of.update(dict.fromkeys((c.name, *(c.into or ())[:1]), c.tensor))
        self.tensor_of.update({own.name: own.tensor for own in self.program.owned})
        self.gradients = _gradients(self.program)
        for segment in self.program.tasks.segments:
            kind, stage = _phase(segment.label)
            self.splits |= {stage} if kind == "W" else set()

    def of_value(self, name: str) -> str:
        """What a value is: `activations of layers.0`."""
        tensor = self.program.partition.graph.tensors[self.tensor_of[name]]
        if tensor.kind is TensorKind.PARAM:
            converted = not any(own.name == name for own in self.program.owned)
            return "gathered parameters" if converted else "parameters"
        if tensor.kind is not TensorKind.VALUE:
            return {"input": "batch", "buffer": "buffers"}.get(tensor.kind.value, "states")
        if tensor.id in self.gradients:
            return "gradients"
        op = self.program.partition.graph.operators[
            self.program.partition.graph.producer[tensor.id][0]
        ]
        is_activation = op.phase is Phase.FORWARD or op.target == TO_DEVICE
        what = "activations" if is_activation else "gradients of activations"
        return f"{what} of {shortened(op.module)}"

    def of_line(self, function: str, line: int) -> str:
        """What a function's line works on: `working memory of layers.0`."""
        found = self.listing.functions[function].lines[line]
        if found.operators and not found.conversions:
            op = self.program.partition.graph.operators[found.operators[0]]
            if op.phase is Phase.UPDATE:
                return "working memory of the optimizer"
            return f"working memory of {shortened(op.module)}"
        return "buffers of communication"

    def of_function(self, name: str) -> tuple[str, int]:
        """A function's kind, as the scheduler has them, and its stage (-1: none)."""
        segment = self.listing.segment_of.get(name)
        if segment is None:
            return "C", -1
        kind, stage = _phase(self.program.tasks.segments[segment].label)
        if kind == "B" and stage not in self.splits:
            kind = "BW"
        return kind, stage

    def of_communication(self, function: str, line: int) -> str:
        """What travels: the tensor that a line communicates, and how many more."""
        lines = self.listing.functions[function].lines
        found, copied = lines[line].conversions, lines[line].operators
        graph = self.program.partition.graph
        tensors = graph.tensors
        if copied and not found:
            return tensors[graph.operators[copied[0]].inputs[0]].name
        names = [tensors[self.program.conversions[c].tensor].name for c in found]
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        return f"{names[0]}{more}" if names else "values"

    def microbatch(self, function: str, time: tuple[int, ...]) -> int:
        """Which microbatch a call works on, -1 for none."""
        segment = self.listing.segment_of.get(function, self.listing.copies_of.get(function))
        if segment is not None:
            grid = self.program.tasks.segments[segment].grid
            names = [grid.names[d] for d in grid.time_dims]
        elif function == SHARING:
            return -1
        else:
            first = self.listing.functions[function].conversions[0]
            route = self.program.conversions[first].route
            names = list(route.key_names)
        return time[names.index(MICROBATCH)] if MICROBATCH in names else -1


def shortened(module: str) -> str:
    """A module path down to its first number.

    >>> shortened("model.layers.3.mlp.fc1"), shortened("")
    ('model.layers.3', 'the step')
    """
    words: list[str] = []
    for word in module.split("."):
        words.append(word)
        if word.isdigit():
            break
    return ".".join(words) or "the step"


def _phase(label: str) -> tuple[str, int]:
    found = _LABEL.fullmatch(label)
    if found is None:
        return "X", -1
    return _KINDS[found.group(1)], int(found.group(2) or -1)


def _gradients(program: Program) -> set[int]:
    """The tensors from which the updates' gradients are made by views and sums over parts."""
    partition = program.partition
    graph = partition.graph
    found: set[int] = set()
    stack = [update.grad for update in graph.updates]
    while stack:
        tensor = stack.pop()
        if tensor in found or tensor not in graph.producer:
            continue
        found.add(tensor)
        op = graph.operators[graph.producer[tensor][0]]
        if partition.axes_of(op.id).rule.is_view:
            stack += op.inputs[:1]
    return found

"""Import: the captured fx graph becomes drafted operators, each with its module and source line."""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx

from superscaler.errors import TraceError
from superscaler.graph.operator import Phase
from superscaler.graph.tensor import TensorKind
from superscaler.trace.capture import Capture
from superscaler.trace.default_dtype import is_promoted
from superscaler.trace.draft import Draft, Node, OperatorDraft, Value
from superscaler.trace.effects import is_check
from superscaler.trace.names import module_path
from superscaler.trace.simplify import Call, simplify
from superscaler.trace.source import source_of

aten = torch.ops.aten

_PLACEMENT = ("device", "layout", "pin_memory", "memory_format", "non_blocking")


@dataclass
class Importer:
    """Walks the joint graph in order; `env` holds the drafted tensors that a node stands for."""

    draft: Draft
    env: dict[fx.Node, Any] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    late: set[int] = field(default_factory=set)  # tensors made in the backward

    def run(self, capture: Capture, given: dict[tuple[str, Any], int]) -> None:
        """Draft every call; `given` numbers the tensors that placeholders stand for."""
        for node in capture.graph.nodes:
            if node.op == "placeholder":
                self._placeholder(node, capture, given)
            elif node.op == "call_function":
                self._call_function(node)
            elif node.op == "get_attr":
                raise TraceError(f"{self._source(node)}: constant {node.target} is not supported")

    def _placeholder(
        self, node: fx.Node, capture: Capture, given: dict[tuple[str, Any], int]
    ) -> None:
        if node in capture.inputs:
            self.env[node] = given[capture.inputs[node]]
        elif node is capture.tangent:
            value = node.meta["val"]
            (self.env[node],) = self.draft.call(
                "aten.full.default",
                ([], 1.0),
                {"dtype": value.dtype},
                [((), value.dtype)],
                phase=Phase.BACKWARD,
                name="loss.grad",
            )

    def _call_function(self, node: fx.Node) -> None:
        if node.target is operator.getitem:
            values, position = node.args
            assert isinstance(values, fx.Node)
            if values not in self.env:
                return  # of a check
            self.env[node] = self.env[values][position]
            return
        if is_check(node):
            self._check(node)
            return
        if not isinstance(node.target, torch._ops.OpOverload):
            raise TraceError(f"{self._source(node)}: operator {node.target} is not supported")
        value = node.meta.get("val")
        if value is None:
            return  # an assertion about a tensor's metadata
        self._refuse_dynamic(node, value)
        self._refuse_strides(node)
        self._refuse_random(node, node.target)
        args = tuple(self._argument(a) for a in node.args)
        kwargs = {
            key: self._argument(a)
            for key, a in node.kwargs.items()
            if key not in _PLACEMENT and a is not None
        }
        self.env[node] = self._draft(node, args, kwargs, value)

    def _check(self, node: fx.Node) -> None:
        """From here on the kernel's results are read through the check, which raises."""
        _, _, info, name, *_ = node.args
        reported = self.env[info]  # type: ignore[index]
        producer = self.draft.producer(reported)
        assert producer is not None
        checked: dict[int, int] = {}
        for output in producer.outputs:
            tensor = self.draft.tensors[output]
            if tensor.dtype.is_floating_point or tensor.dtype.is_complex:
                args = (Value(output), Value(reported), name, node.kwargs["is_matrix"])
                form = [(tensor.shape, tensor.dtype)]
                found = self.draft.call(
                    "superscaler.checked.default", args, {}, form, **self._details(node)
                )
                self._keep_phases_in_order(list(found))
                checked[output] = found[0]
        for known, value in self.env.items():
            if isinstance(value, list):
                self.env[known] = [checked.get(v, v) for v in value]
            else:
                self.env[known] = checked.get(value, value)

    def _draft(
        self, node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any], value: Any
    ) -> Any:
        target, details = str(node.target), self._details(node)
        if isinstance(value, torch.Tensor):
            args = self._promote(target, args, value.dtype, details)
            call = Call(target, args, kwargs, tuple(value.shape), value.dtype, details)
            result = simplify(self.draft, call)
            if result is None:
                result = call.emit(self.draft, target, *args, **kwargs)
            results = [result]
        else:
            # An output that is not computed (a gradient masked out) is a placeholder.
            outputs = [
                ((), torch.float32) if item is None else (tuple(item.shape), item.dtype)
                for item in value
            ]
            if target == "aten.native_layer_norm.default":
                outputs[1:] = [(shape, self._statistics_dtype(args)) for shape, _ in outputs[1:]]
            results = list(self.draft.call(target, args, kwargs, outputs, **details))
        self._keep_phases_in_order(results)
        return results[0] if isinstance(value, torch.Tensor) else results

    def _statistics_dtype(self, args: tuple[Any, ...]) -> torch.dtype:
        """A layer norm's statistics: fakes have the input's dtype, kernels take the weight's."""
        weighted = [a for a in (args[2], args[0]) if isinstance(a, Value)]
        return self.draft.tensors[weighted[0].id].dtype

    def _promote(
        self, target: str, args: tuple[Any, ...], dtype: torch.dtype, details: dict[str, Any]
    ) -> tuple[Any, ...]:
        """Integers that become floating point in the default dtype are cast to it first."""
        given = [self.draft.tensors[a.id] for a in args if isinstance(a, Value)]
        if not is_promoted(target, [tensor.dtype for tensor in given], dtype):
            return args

        def cast(value: Value) -> Value:
            shape = self.draft.tensors[value.id].shape
            call = Call("aten._to_copy.default", (value,), {}, shape, dtype, details)
            found = simplify(self.draft, call)
            assert found is not None
            return Value(found)

        return tuple(cast(a) if isinstance(a, Value) else a for a in args)

    def _keep_phases_in_order(self, results: list[int]) -> None:
        """What reads a tensor of the backward belongs to the backward."""
        producer = self.draft.producer(results[0])
        if producer is None:
            return
        if any(i in self.late for i in producer.inputs):
            producer.phase = Phase.BACKWARD
        if producer.phase is Phase.BACKWARD:
            self.late.update(producer.outputs)

    def _details(self, node: fx.Node) -> dict[str, Any]:
        meta = node.meta
        is_backward = (
            bool(meta.get("autograd_backward")) or meta.get("partitioner_tag") == "is_backward"
        )
        stack = meta.get("fwd_nn_module_stack" if is_backward else "nn_module_stack")
        origin = meta.get("from_node")
        call = origin[-1].name if origin and not is_backward else ""
        seq_nr = meta.get("seq_nr", -1)
        return {
            "phase": Phase.BACKWARD if is_backward else Phase.FORWARD,
            "module": module_path(stack),
            "source": self._source(node),
            "node": None if seq_nr < 0 else Node(seq_nr, call),
            "sums_gradients": bool(meta.get("is_gradient_acc")),
        }

    def _source(self, node: fx.Node) -> str:
        trace = node.meta.get("stack_trace") or ""
        if trace not in self.sources:
            self.sources[trace] = source_of(trace)
        return self.sources[trace]

    def _argument(self, argument: Any) -> Any:
        if isinstance(argument, fx.Node):
            return Value(self.env[argument])
        if isinstance(argument, (list, tuple)):
            return [self._argument(item) for item in argument]
        return argument

    def _refuse_dynamic(self, node: fx.Node, value: Any) -> None:
        tensors = value if isinstance(value, (list, tuple)) else [value]
        for item in tensors:
            if item is not None and not isinstance(item, torch.Tensor):
                raise TraceError(
                    f"{self._source(node)}: {node.target} gives a number that depends on tensors; "
                    "keep it a tensor"
                )

    def _refuse_random(self, node: fx.Node, target: torch._ops.OpOverload) -> None:
        if torch.Tag.nondeterministic_seeded in target.tags:
            raise TraceError(
                f"{self._source(node)}: random operator {target} cannot be split over devices; "
                "use dropout, rand, randn, bernoulli or randint, or draw it into the batch"
            )

    def _refuse_strides(self, node: fx.Node) -> None:
        is_strided = "as_strided" in str(node.target)
        if is_strided and not node.all_input_nodes[0].meta["val"].is_contiguous():
            raise TraceError(
                f"{self._source(node)}: as_strided of a tensor that is not contiguous; "
                "call contiguous() on it first, or use view and transpose"
            )


def link_backward(draft: Draft, live: list[int]) -> None:
    """Give every backward operator its forward operator, and the module and line if it has none.

    Of the live forward operators of one autograd node, which share a number, it is the last in the
    program's order, also where calls alike became one, which is then part of several nodes.
    """
    last: dict[int, int] = {}
    calls: dict[int, str] = {}
    needed = set(live)
    for node, number in draft.nodes:
        op = draft.operators[number]
        if number not in needed or op.phase is not Phase.FORWARD:
            continue
        if not _is_differentiable(draft, op):
            continue
        if calls.setdefault(node.number, node.call) == node.call:
            last[node.number] = number
    for op in draft.operators:
        if op.phase is Phase.BACKWARD and op.node and not op.sums_gradients:
            op.forward = last.get(op.node.number, -1)
            _inherit(op, draft.operators[op.forward] if op.forward >= 0 else None)
    _place_sums(draft)


def _is_differentiable(draft: Draft, op: OperatorDraft) -> bool:
    """Whether a gradient can pass through the operator."""
    dtype = draft.tensors[op.outputs[0]].dtype
    return dtype.is_floating_point or dtype.is_complex


def _inherit(op: OperatorDraft, other: OperatorDraft | None) -> None:
    if other is not None:
        op.module = op.module or other.module
        op.source = op.source or other.source


def _place_sums(draft: Draft) -> None:
    """A sum of gradients belongs where the summed gradient is read first."""
    reader: dict[int, OperatorDraft] = {}
    for op in reversed(draft.operators):
        if op.sums_gradients:
            _inherit_first(op, reader)
        for tensor in op.inputs:
            reader[tensor] = op


def _inherit_first(op: OperatorDraft, reader: dict[int, OperatorDraft]) -> None:
    first = reader.get(op.outputs[0])
    op.module, op.source = (first.module, first.source) if first else ("", "")


def given_tensor(draft: Draft, kind: TensorKind, name: str, tensor: torch.Tensor) -> int:
    """Draft a tensor that exists before the step."""
    return draft.tensor(tuple(tensor.shape), tensor.dtype, kind, name)

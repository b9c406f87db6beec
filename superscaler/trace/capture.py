"""Capture: the joint forward and backward ATen graph of a step; torch's private APIs live here.

Tried with torch 2.11, 2.13 and 2.14. `torch.export` runs the user's Python code once; AOTAutograd
then differentiates what `rewrite` makes of the exported graph.
"""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
import torch.fx.proxy
import torch.fx.traceback as fx_traceback
from torch import nn
from torch._functorch._aot_autograd.descriptors import (
    BufferAOTInput,
    GradAOTOutput,
    InputMutationAOTOutput,
    ParamAOTInput,
    PlainAOTInput,
    PlainAOTOutput,
    TangentAOTInput,
)
from torch._functorch.aot_autograd import aot_export_joint_with_descriptors
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export.graph_signature import InputKind

from superscaler.errors import TraceError
from superscaler.trace.bare import data_detached
from superscaler.trace.constant import Constant, read_constant
from superscaler.trace.data_dependent import DATA_DEPENDENT, data_dependent
from superscaler.trace.decompose import DECOMPOSITIONS
from superscaler.trace.default_dtype import default_dtype_of
from superscaler.trace.fake import fake_copy, fake_like
from superscaler.trace.functions import Functions
from superscaler.trace.masks import masks_as_given
from superscaler.trace.modes import modes_as_written
from superscaler.trace.rewrite import Rewriter
from superscaler.trace.source import source_of, user_line
from superscaler.trace.unseen import CALLS_BACKWARD, unseen_refused
from superscaler.user_code import UserCode, is_user_file


@dataclass(frozen=True)
class Capture:
    """The joint graph, and what its placeholders and outputs are.

    `inputs` maps a placeholder to ("param", name), ("buffer", name) or ("input", batch leaf);
    the loss's tangent is in none. `outputs` are nodes; a gradient is by its parameter's name, a
    new buffer value by its buffer's name.
    """

    graph: torch.fx.Graph
    inputs: dict[torch.fx.Node, tuple[str, Any]]
    tangent: torch.fx.Node | None
    loss: torch.fx.Node
    metrics: tuple[tuple[str, torch.fx.Node], ...]
    grads: dict[str, torch.fx.Node]
    buffers: dict[str, torch.fx.Node]


def capture(
    step: Callable[[Any, Any], Any],
    model: nn.Module,
    leaves: dict[str, Any],
    rebuild: Callable[[list[Any]], Any],
) -> Capture:
    """The joint graph of `step(model, rebuild(leaves))`; leaves that are no tensors are constants.

    Raises TraceError if the step cannot be captured, or raises.
    """
    mode = FakeTensorMode()
    tensors = [name for name, leaf in leaves.items() if isinstance(leaf, torch.Tensor)]
    fakes = tuple(fake_like(leaves[name], mode) for name in tensors)
    wrapper = _Step(step, fake_copy(model, mode), list(leaves.values()), rebuild)
    blame = UserCode("the step raised", kind=TraceError, unless_ours=True)
    with blame, _errors_explained(), _user_frames_kept():
        functions = Functions()
        with (
            functions.kept(),
            unseen_refused(),
            masks_as_given(),
            modes_as_written(),
            data_detached(),
        ):
            exported = torch.export.export(wrapper, fakes, strict=False)
        joint_module = _JointModule(exported, wrapper, functions)
        with contextlib.ExitStack() as stack:
            stack.enter_context(_default_dtype(default_dtype_of(exported.graph_module)))
            joint = aot_export_joint_with_descriptors(
                stack, joint_module, fakes, decompositions=DECOMPOSITIONS
            )
            graph = joint.graph_module.graph
    return _describe(graph, joint_module, tensors, wrapper.metrics.names)


class _Metrics:
    """The names of the metrics that the step returned."""

    names: tuple[str, ...] = ()


class _Step(nn.Module):
    """The step as a module: tensors in, (loss, *metrics) out."""

    def __init__(
        self,
        step: Callable[[Any, Any], Any],
        model: nn.Module,
        leaves: list[Any],
        rebuild: Callable[[list[Any]], Any],
    ) -> None:
        super().__init__()
        self.model = model
        self.step = step
        self.leaves = [None if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]
        self.positions = [i for i, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)]
        self.rebuild = rebuild
        self.metrics = _Metrics()  # export puts back attributes, not what they hold

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        leaves = list(self.leaves)
        for position, tensor in zip(self.positions, tensors, strict=True):
            leaves[position] = tensor
        buffers = dict(self.model.named_buffers())
        result = self.step(self.model, self.rebuild(leaves))
        _change_in_place(self.model, buffers)
        if any(p.grad is not None for p in self.model.parameters()):
            raise TraceError(CALLS_BACKWARD)
        loss, metrics = _check_result(result)
        self.metrics.names = tuple(metrics)
        return (loss, *(metric.detach() for metric in metrics.values()))


def _change_in_place(model: nn.Module, buffers: dict[str, torch.Tensor]) -> None:
    """A buffer that the step bound to a new tensor (self.center = ...) is changed in place."""
    for name, buffer in buffers.items():
        path, _, own = name.rpartition(".")
        module = model.get_submodule(path)
        made = module._buffers.get(own)
        if made is None or made is buffer:
            continue
        if made.shape != buffer.shape or made.dtype != buffer.dtype:
            raise TraceError(
                f"the step sets buffer {name}, of {buffer.dtype} and shape {tuple(buffer.shape)}, "
                f"to one of {made.dtype} and shape {tuple(made.shape)}; keep dtype and shape"
            )
        module._buffers[own] = buffer.copy_(made.detach())


def _check_result(result: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The step's result as loss and metrics."""
    loss = result
    metrics: dict[str, torch.Tensor] = {}
    if isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict):
        loss, metrics = result
    if not isinstance(loss, torch.Tensor):
        raise TraceError(
            f"the step returned {_kind(result)}; return the loss (a scalar tensor), or the loss "
            "and a dict of metrics"
        )
    if loss.dim():
        raise TraceError(
            f"the loss has shape {tuple(loss.shape)}; return a scalar tensor, loss.mean() say"
        )
    if not loss.is_floating_point():
        raise TraceError(f"the loss is of {loss.dtype}; return a floating-point scalar")
    for name, metric in metrics.items():
        if not isinstance(name, str) or not isinstance(metric, torch.Tensor):
            raise TraceError(
                f"metric {name!r} is {_kind(metric)}; metrics are tensors by name (no .item())"
            )
        if metric.is_complex():
            raise TraceError(
                f"metric {name!r} is of {metric.dtype}; return real numbers: its abs(), or its "
                "real and imag by names of their own"
            )
        if metric.numel() != 1:
            raise TraceError(
                f"metric {name!r} has shape {tuple(metric.shape)}; return scalars: its mean() or "
                "sum(), or an entry by a name of its own"
            )
    return loss, metrics


def _kind(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        inside = ", ".join(type(item).__name__ for item in value)
        return f"a {type(value).__name__} of ({inside})"
    if isinstance(value, (torch.SymFloat, torch.SymInt, torch.SymBool)):
        return "a number read from a tensor"
    return f"a {type(value).__name__}"


class _JointModule(nn.Module):
    """Runs the rewritten export graph on the fake parameters, registered under flat names."""

    def __init__(
        self, exported: torch.export.ExportedProgram, wrapper: _Step, functions: Functions
    ) -> None:
        super().__init__()
        self.functions = functions
        parameters = dict(wrapper.named_parameters(remove_duplicate=False))
        buffers = dict(wrapper.named_buffers(remove_duplicate=False))
        self.graph_module = [exported.graph_module]  # in a list: no submodule of this one
        self.names: dict[str, str] = {}  # flat name -> the model's name
        # Per placeholder: a flat name, a constant, or None for a batch leaf.
        self.feeds: list[str | Constant | None] = []
        flat_names: dict[int, str] = {}
        for spec in exported.graph_signature.input_specs:
            if spec.kind is InputKind.USER_INPUT:
                self.feeds.append(None)
            elif spec.kind is InputKind.PARAMETER:
                self.feeds.append(self._register(spec.target, parameters, flat_names, "p"))
            elif spec.kind is InputKind.BUFFER:
                self.feeds.append(self._register(spec.target, buffers, flat_names, "b"))
            elif spec.kind is InputKind.CONSTANT_TENSOR:
                constant = exported.constants[spec.target]
                line = _where_read(exported.graph_module, spec.arg.name)
                if constant.requires_grad:
                    raise TraceError(
                        f"{line}the step trains a tensor of shape {tuple(constant.shape)} that is "
                        "not a parameter of its model; make it one, and use the step's model, no "
                        "other"
                    )
                self.feeds.append(read_constant(constant, line))
            else:
                raise TraceError(f"the step reads {spec.target}, a {spec.kind.name}; not supported")

    def _register(
        self, name: str, tensors: dict[str, Any], flat_names: dict[int, str], prefix: str
    ) -> str:
        tensor = tensors[name]
        if id(tensor) not in flat_names:
            flat = f"{prefix}{len(flat_names)}"
            flat_names[id(tensor)] = flat
            first = next(n for n, t in tensors.items() if t is tensor)
            self.names[flat] = first.removeprefix("model.")
            if prefix == "p":
                self.register_parameter(flat, tensor)
            else:
                self.register_buffer(flat, tensor)
        return flat_names[id(tensor)]

    def forward(self, *tensors: torch.Tensor) -> Any:
        inputs = iter(tensors)
        arguments = [self._argument(feed, inputs) for feed in self.feeds]
        with fx_traceback.preserve_node_meta():
            rewriter = Rewriter(self.graph_module[0], self.functions)
            return rewriter.run(*arguments, enable_io_processing=False)

    def _argument(self, feed: str | Constant | None, inputs: Iterator[torch.Tensor]) -> Any:
        if feed is None:
            return next(inputs)
        return getattr(self, feed) if isinstance(feed, str) else feed.build()


def _where_read(module: torch.fx.GraphModule, name: str) -> str:
    """The user's line that reads a placeholder first, as the beginning of a message."""
    found = [node for node in module.graph.find_nodes(op="placeholder") if node.name == name]
    for reader in found[0].users if found else ():
        if line := _line_of(reader):
            return line
    return ""


def _line_of(*nodes: torch.fx.Node) -> str:
    """The first of the nodes' lines of the user's, as the beginning of a message."""
    lines = [source_of(node.meta.get("stack_trace") or "") for node in nodes]
    return next((f"{line}: " for line in lines if line), "")


def _describe(
    graph: torch.fx.Graph, module: _JointModule, tensors: list[str], metric_names: tuple[str, ...]
) -> Capture:
    """Read the descriptors of the joint graph's placeholders and outputs."""
    inputs: dict[torch.fx.Node, tuple[str, Any]] = {}
    tangent = None
    for node in graph.find_nodes(op="placeholder"):
        match node.meta["desc"]:
            case ParamAOTInput(target=flat):
                inputs[node] = ("param", module.names[flat])
            case BufferAOTInput(target=flat):
                inputs[node] = ("buffer", module.names[flat])
            case PlainAOTInput(idx=index):
                inputs[node] = ("input", tensors[index])
            case TangentAOTInput():
                tangent = node
    (output,) = graph.find_nodes(op="output")
    plain: dict[int, torch.fx.Node] = {}
    grads: dict[str, torch.fx.Node] = {}
    buffers: dict[str, torch.fx.Node] = {}
    for node, descriptor in zip(output.args[0], output.meta["desc"], strict=True):
        match descriptor:
            case PlainAOTOutput(idx=index):
                plain[index] = node
            case GradAOTOutput(grad_of=ParamAOTInput(target=flat)) if node is not None:
                grads[module.names[flat]] = node
            case InputMutationAOTOutput(mutated_input=BufferAOTInput(target=flat)):
                buffers[module.names[flat]] = node
            case InputMutationAOTOutput(mutated_input=mutated):
                _refuse_mutation(_line_of(node), mutated, module, tensors)
    metrics = tuple((name, plain[1 + i]) for i, name in enumerate(metric_names))
    return Capture(graph, inputs, tangent, plain[0], metrics, grads, buffers)


def _refuse_mutation(line: str, mutated: Any, module: _JointModule, tensors: list[str]) -> None:
    what = "a tensor in place; only buffers may change: make it one (register_buffer)"
    if isinstance(mutated, PlainAOTInput):
        what = (
            f"batch leaf {tensors[mutated.idx]} in place; only buffers may change: change a clone()"
        )
    elif isinstance(mutated, ParamAOTInput):
        what = (
            f"parameter {module.names[mutated.target]} in place; only buffers may change: keep "
            "what the optimizer does not train (an average of weights, say) in buffers "
            "(register_buffer), or change it after the step"
        )
    raise TraceError(f"{line}the step changes {what}")


@contextlib.contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    outer = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(outer)


def _user_frames(_: Any, stack: traceback.StackSummary) -> traceback.StackSummary:
    """The user's frames, where torch keeps those of functions named `forward`."""
    return traceback.StackSummary.from_list(f for f in stack if is_user_file(f.filename))


@contextlib.contextmanager
def _user_frames_kept() -> Iterator[None]:
    """Nodes with the stack traces of the step's own frames."""
    with patch.object(torch.fx.proxy.TracerBase, "_filter_traceback_frames", _user_frames):
        yield


@contextlib.contextmanager
def _errors_explained() -> Iterator[None]:
    """What cannot be captured becomes a TraceError, without torch's own account of it on stderr."""
    logger = logging.getLogger("torch")
    outer = logger.level
    logger.setLevel(logging.CRITICAL)
    heard = io.StringIO()
    try:
        with contextlib.redirect_stderr(heard), warnings.catch_warnings():
            # What the step assigns to modules stays with their copy.
            warnings.filterwarnings("ignore", message="The tensor attributes? ")
            yield
    except DATA_DEPENDENT as error:
        heard = io.StringIO()
        raise data_dependent(user_line(error.__traceback__), error) from error
    finally:
        logger.setLevel(outer)
        sys.stderr.write(heard.getvalue())

"""`trace`: the joint graph of a training step on the global batch, optimizer included."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import TreeSpec, tree_flatten_with_path, tree_unflatten

from superscaler.dtypes import dtype_name
from superscaler.errors import TraceError
from superscaler.garbage import no_collections
from superscaler.graph.graph import Graph, Update
from superscaler.graph.operator import Phase
from superscaler.graph.tensor import TensorKind
from superscaler.trace.capture import Capture, capture
from superscaler.trace.clip import clip_gradients
from superscaler.trace.draft import Draft, Finished, Value, finish, live_operators
from superscaler.trace.importer import Importer, given_tensor, link_backward
from superscaler.trace.names import Namer, leaf_name
from superscaler.trace.optimizer import OptimizerFactory, OptimizerState, probe_optimizer
from superscaler.trace.unseen import refuse_gradient_hooks

_CONSTANTS = (int, float, bool, str, type(None), torch.dtype)


def trace(
    step: Callable[[Any, Any], Any],
    model: nn.Module,
    batch: Any,
    optimizer: OptimizerFactory,
    *,
    clip_grad_norm: float | None = None,
) -> Graph:
    """The graph of one training step: forward, backward, clipping and update.

    Parameters
    ----------
    step : `step(model, batch)` returns the loss (a scalar tensor), or the loss and a dict of
        metrics (tensors).
    model : in the mode (train or eval) to be traced in; may be on the meta device. It is only read.
    batch : the global batch, a pytree of tensors; real, fake or meta. Numbers, strings and None in
        it are constants of the graph.
    optimizer : a callable from parameters to a `torch.optim.Optimizer` that is element-wise.
    clip_grad_norm : the largest global 2-norm of the gradients.

    Raises
    ------
    TraceError : the step cannot be captured, or something above is not as described.
    """
    paths, spec = tree_flatten_with_path(batch)
    namer = Namer()
    leaves = {namer.unique(leaf_name(path)): leaf for path, leaf in paths}
    _check_batch(leaves)
    _check_step(step)
    refuse_gradient_hooks(model)
    trained = _trained_parameters(model)
    state = probe_optimizer(optimizer, trained)
    with no_collections():
        captured = capture(step, model, leaves, lambda values: tree_unflatten(values, spec))
        return _Assembly(model, leaves, spec, state, captured, clip_grad_norm).graph()


class _Assembly:
    """Puts the captured graph, the clipping and the updates together."""

    def __init__(
        self,
        model: nn.Module,
        leaves: dict[str, Any],
        spec: TreeSpec,
        state: OptimizerState,
        captured: Capture,
        clip_grad_norm: float | None,
    ) -> None:
        self.model = model
        self.spec = spec
        self.state = state
        self.captured = captured
        self.clip_grad_norm = clip_grad_norm
        self.leaves = leaves
        self.draft = Draft()
        self.given: dict[tuple[str, Any], int] = {}
        self._draft_given()

    def graph(self) -> Graph:
        importer = Importer(self.draft)
        importer.run(self.captured, self.given)
        loss = importer.env[self.captured.loss]
        metrics = [(name, self._kept(importer.env[n])) for name, n in self.captured.metrics]
        buffers = {
            self.given["buffer", name]: importer.env[node]
            for name, node in self.captured.buffers.items()
        }
        grads = self._grads(importer)
        norm = -1
        if self.clip_grad_norm is not None:
            grads, norm = clip_gradients(self.draft, grads, self.clip_grad_norm)
        updates = [self._draft_update(name, grad) for name, grad in grads.items()]
        results = [loss, *(t for _, t in metrics), *buffers.values()]
        results += [norm] if norm >= 0 else []
        results += [new for u in updates for new in (u.new_param, *(s[2] for s in u.states))]
        link_backward(self.draft, live_operators(self.draft, results))
        self._place_sums(importer)
        titles = {loss: "loss"}
        for name, tensor in metrics:
            titles.setdefault(tensor, name)
        done = finish(self.draft, results, titles)
        ids = done.tensor_ids
        return Graph(
            tensors=done.tensors,
            operators=done.operators,
            loss=ids[loss],
            metrics=tuple((name, ids[t]) for name, t in metrics),
            updates=tuple(_renumbered(u, done) for u in updates),
            buffers={ids[b]: ids[new] for b, new in buffers.items()},
            batch=self._batch(done, {ids[t] for t in results}),
            batch_spec=self.spec,
            optimized=tuple(
                (name, tuple(p.shape), dtype_name(p.dtype))
                for name, p in self.model.named_parameters()
                if p.requires_grad
            ),
            constants=tuple(
                (i, name, repr(leaf))
                for i, (name, leaf) in enumerate(self.leaves.items())
                if not isinstance(leaf, Tensor)
            ),
            aliases=_aliases(self.model),
            optimizer=self.state.text,
            grad_norm=ids[norm] if norm >= 0 else -1,
        )

    def _draft_given(self) -> None:
        """Parameters, buffers, batch leaves: all that exists before the step, read or not."""
        for name, parameter in self.model.named_parameters():
            self.given["param", name] = given_tensor(self.draft, TensorKind.PARAM, name, parameter)
        for name, buffer in self.model.named_buffers():
            self.given["buffer", name] = given_tensor(self.draft, TensorKind.BUFFER, name, buffer)
        taken = {tensor.name for tensor in self.draft.tensors}
        for name, leaf in self.leaves.items():
            if isinstance(leaf, Tensor):
                own = f"batch.{name}" if name in taken else name
                self.given["input", name] = given_tensor(self.draft, TensorKind.INPUT, own, leaf)

    def _kept(self, metric: int) -> int:
        """A metric that is a parameter is copied, for the update changes parameters in place."""
        draft = self.draft.tensors[metric]
        if draft.kind is not TensorKind.PARAM:
            return metric
        made = [(draft.shape, draft.dtype)]
        copy = "aten.clone.default"
        return self.draft.call(copy, (Value(metric),), {}, made, phase=Phase.BACKWARD)[0]

    def _grads(self, importer: Importer) -> dict[str, int]:
        """The gradients in the order of the parameters."""
        nodes = self.captured.grads
        grads = {n: importer.env[nodes[n]] for n in self.state.states if n in nodes}
        if not grads:
            raise TraceError("the loss does not depend on any parameter that requires a gradient")
        return grads

    def _place_sums(self, importer: Importer) -> None:
        """A sum of a parameter's gradients belongs to its module, at the first one's line."""
        for name in self.state.states:
            node = self.captured.grads.get(name)
            producer = self.draft.producer(importer.env[node]) if node else None
            sums = []
            while producer and producer.sums_gradients:
                sums.append(producer)
                producer = self.draft.producer(producer.inputs[0])
            for operator in sums:
                operator.module = name.rpartition(".")[0]
                operator.source = producer.source if producer else ""

    def _draft_update(self, name: str, grad: int) -> Update:
        param = self.given["param", name]
        shape, dtype = self.draft.tensors[param].shape, self.draft.tensors[param].dtype
        states = self.state.states[name]
        befores = [
            self.draft.tensor(shape, state_dtype, TensorKind.STATE, f"{name}.{state}")
            for state, state_dtype in states
        ]
        new_param, *afters = self.draft.call(
            "superscaler.update",
            (Value(param), Value(grad), *(Value(b) for b in befores)),
            {"states": [state for state, _ in states]},
            [(shape, dtype), *((shape, state_dtype) for _, state_dtype in states)],
            phase=Phase.UPDATE,
            module=name.rpartition(".")[0],
            name=f"{name}.update",
        )
        pairs = tuple((s[0], b, a) for s, b, a in zip(states, befores, afters, strict=True))
        return Update(param, new_param, grad, len(self.draft.operators) - 1, pairs)

    def _batch(self, done: Finished, results: set[int]) -> tuple[int, ...]:
        read = {t for op in done.operators for t in op.inputs} | results
        given = [self.given.get(("input", name), -1) for name in self.leaves]
        ids = [done.tensor_ids.get(tensor, -1) for tensor in given]
        return tuple(i if i in read else -1 for i in ids)


def _trained_parameters(model: nn.Module) -> dict[str, Tensor]:
    for name, parameter in model.named_parameters():
        if isinstance(parameter, nn.parameter.UninitializedParameter):
            raise TraceError(
                f"parameter {name} has no shape yet; run the lazy module once on a batch, "
                "or build it with its sizes"
            )
    trained: dict[str, Tensor] = {
        name: p for name, p in model.named_parameters() if p.requires_grad
    }
    if not trained:
        raise TraceError("the model has no parameter that requires a gradient; nothing to train")
    return trained


def _check_step(step: Callable[..., Any]) -> None:
    """A model that the step takes from around itself would be a constant of the graph."""
    if not inspect.isfunction(step):
        return
    around = inspect.getclosurevars(step)
    for name, value in {**around.globals, **around.nonlocals}.items():
        is_trained = isinstance(value, nn.Module) and any(
            p.requires_grad for p in value.parameters()
        )
        if is_trained:
            raise TraceError(
                f"the step uses the module {name} from around it, whose parameters would not be "
                "trained; use the model that the step is given, and put other modules into it"
            )
    for value in around.nonlocals.values():
        _check_step(value)  # a decorated step


def _check_batch(leaves: dict[str, Any]) -> None:
    for name, leaf in leaves.items():
        if not isinstance(leaf, (Tensor, *_CONSTANTS)):
            raise TraceError(
                f"batch leaf {name} is of type {type(leaf).__name__}; a batch is made of tensors "
                "in dicts, lists and tuples (dict(...) makes a plain dict of a BatchEncoding)"
            )


def _aliases(model: nn.Module) -> dict[str, str]:
    """Every further name of a tied parameter or buffer -> the name kept."""
    kept = {id(t): name for name, t in (*model.named_parameters(), *model.named_buffers())}
    every = (
        *model.named_parameters(remove_duplicate=False),
        *model.named_buffers(remove_duplicate=False),
    )
    return {name: kept[id(t)] for name, t in every if kept[id(t)] != name}


def _renumbered(update: Update, done: Finished) -> Update:
    ids = done.tensor_ids
    return Update(
        param=ids[update.param],
        new_param=ids[update.new_param],
        grad=ids[update.grad],
        operator=done.operator_ids[update.operator],
        states=tuple((name, ids[before], ids[after]) for name, before, after in update.states),
    )

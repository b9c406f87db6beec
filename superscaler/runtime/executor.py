"""RankExecutor: runs one rank's program, step after step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from math import prod
from typing import Any, TypeVar

import torch

from superscaler.runtime import kernels
from superscaler.runtime.communicator import Communicator
from superscaler.runtime.context import Context
from superscaler.runtime.data import BatchPlacer, as_dtype
from superscaler.runtime.explain import TaskExplainer
from superscaler.runtime.failures import WeightsError
from superscaler.runtime.groups import optimizer_of_parts, stand_in
from superscaler.runtime.kernels.attention_block import merge
from superscaler.runtime.pending import Pending, resolve
from superscaler.runtime.program import Key, Placed, RankProgram
from superscaler.runtime.results import ResultSharing
from superscaler.runtime.shards import take
from superscaler.runtime.timeline import Values, Write, timeline
from superscaler.runtime.update import Member, shaped_states, update

_REDUCE: dict[Write, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    Write.ADD: torch.add,
    Write.ADD_IN_PLACE: torch.Tensor.add_,
    Write.MAX: torch.maximum,
    Write.MERGE: merge,
}

T = TypeVar("T", bound=torch.Tensor)
OptimizerFactory = Callable[[list[torch.nn.Parameter]], torch.optim.Optimizer]


class RankExecutor:
    """One rank's parameters, buffers and optimizer, and the step that trains them.

    Parameters
    ----------
    optimizer : called with the list of the trained parameters' local parts (not at all on a rank
        that has none), and, where these are not all of them whole, with stand-ins of all before
        that, which show the groups (see `groups`); None for programs without an update.
    seed : of the random operators; together with the step's number it fixes every draw.
    record_gradients : keep every gradient that reaches the optimizer in `gradients`.
    trained_by : an executor of another program (for batches of another shape) whose parameters,
        buffers and optimizer this one trains on; `optimizer` is not called then.

    Weights are zero until `load_weights` or a checkpoint fills them. Raises WeightsError when the
    program places them otherwise than that of `trained_by`.
    """

    def __init__(
        self,
        program: RankProgram,
        communicator: Communicator,
        *,
        optimizer: OptimizerFactory | None = None,
        device: torch.device | str = "cpu",
        seed: int = 0,
        record_gradients: bool = False,
        trained_by: RankExecutor | None = None,
    ) -> None:
        self.program = program
        self.communicator = communicator
        self.device = torch.device(device)
        self.seed = seed
        self.step_number = 0
        self.gradients: dict[Key, torch.Tensor] = {}
        self.grad_norm: torch.Tensor | None = None
        self._record_gradients = record_gradients
        self._timeline = timeline(program)
        if trained_by is None:
            self.parameters = {p.key: self._new_parameter(p) for p in program.parameters}
            self.buffers = {p.key: self._new_buffer(p) for p in program.buffers}
            self.optimizer = self._make_optimizer(optimizer)
        else:
            other = trained_by.program
            self.parameters = _by_place(program.parameters, other.parameters, trained_by.parameters)
            self.buffers = _by_place(program.buffers, other.buffers, trained_by.buffers)
            self.optimizer = trained_by.optimizer
        self._in_host = {
            p.key: (p.memory == "host", p.states == "host") for p in program.parameters
        }
        self.context = Context(program.constants, communicator, device, self._optimizer_step)
        read = self._timeline.read_inputs
        self._placer = BatchPlacer(
            program.manifest["batch"], [p for p in program.inputs if p.key in read], self.device
        )
        self._sharing = ResultSharing(program, communicator, self.device)
        self._explainer = TaskExplainer(program)
        numbers = self._timeline.numbers
        resting = {**self.parameters, **self.buffers}
        self._resting: Values = {numbers[key]: value for key, value in resting.items()}
        self._new_buffers = [(numbers[new], self.buffers[old]) for new, old in program.new_buffers]

    def load_weights(self, weights: Mapping[str, torch.Tensor] | Iterable[tuple[str, Any]]) -> None:
        """Cut this rank's parameters and buffers out of whole tensors, by name.

        `weights` is a mapping or an iterable of (name, tensor), which is read once, so that whole
        tensors may be made one at a time. Raises WeightsError when one is missing or has another
        shape than the program's.
        """
        pairs: Iterable[Any] = weights.items() if isinstance(weights, Mapping) else weights
        homes: dict[str, list[tuple[Placed, torch.Tensor]]] = {}
        for placed, value in self.placed_values():
            homes.setdefault(placed.name, []).append((placed, value))
        canonical = self._canonical_names()
        for name, whole in pairs:
            name = canonical.get(name, name)
            for placed, value in homes.pop(name, ()):
                _fill(value, placed, whole)
        if homes:
            raise WeightsError(
                f"rank {self.program.rank}: no weights were given for {', '.join(sorted(homes))}; "
                "the program was compiled for another model, or the model was renamed"
            )

    def placed_values(self) -> list[tuple[Placed, torch.Tensor]]:
        """Every parameter and buffer of this rank, with where it belongs."""
        parameters = [(p, self.parameters[p.key].detach()) for p in self.program.parameters]
        return parameters + [(p, self.buffers[p.key]) for p in self.program.buffers]

    @torch.no_grad()
    def step(self, batch: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Run one training step on a global batch; every rank gets the loss and the metrics.

        Raises TaskFailure naming the task and the operator when a task raises.
        """
        self.gradients = {}
        kernels.set_random(self.seed, self.step_number)
        values = self._start(batch)
        with self._explainer:
            self._run(values)
        loss, metrics, self.grad_norm = self._share_results(values)
        self.communicator.finish_sends()  # they may read the buffers
        for number, buffer in self._new_buffers:
            buffer.copy_(resolve(values[number]))
        self.step_number += 1
        return loss, metrics

    def _start(self, batch: Any) -> Values:
        numbers = self._timeline.numbers
        values = dict(self._resting)
        for key, value in self._placer.place(batch).items():
            values[numbers[key]] = value
        return values

    def _run(self, values: Values) -> None:
        context, explainer = self.context, self._explainer
        unread: list[Pending] = []  # a message that came has to be taken in, read or not
        for entry in self._timeline.entries:
            explainer.entry = entry
            context.time = entry.time
            returned = entry.caller(entry.function, context, values, entry.reads)
            for (number, how), value in zip(entry.writes, returned, strict=True):
                if how is Write.STORE:
                    values[number] = value
                elif how in _REDUCE:
                    # What was under way before is waited for now, what came now with its reader.
                    total, reduce = resolve(values[number]), _REDUCE[how]
                    if type(value) is Pending:
                        values[number] = value.then(partial(reduce, total))
                    else:
                        values[number] = reduce(total, value)
                elif isinstance(value, Pending):
                    unread.append(value)
            # References that would keep values alive through the next task.
            returned = value = total = None
        explainer.entry = None
        for pending in unread:
            pending.wait()

    def _share_results(self, values: Values) -> tuple[Any, dict[str, Any], Any]:
        numbers = self._timeline.numbers
        return self._sharing.share(lambda key: resolve(values[numbers[key]]))

    def _optimizer_step(self, gradients: Mapping[Any, torch.Tensor]) -> None:
        assert self.optimizer is not None, "the program updates parameters, give an optimizer"
        members = [
            Member(self.parameters[key], gradient, *self._in_host[key])
            for key, gradient in gradients.items()
        ]
        update(self.optimizer, members, self.context.copies)
        if self._record_gradients:
            self.gradients.update(gradients)

    def _new_parameter(self, placed: Placed) -> torch.nn.Parameter:
        entry = self.program.manifest["parameters"][placed.name]
        zeros = self._zeros(placed.shape, as_dtype(entry["dtype"]), placed.memory == "host")
        return torch.nn.Parameter(zeros, requires_grad=placed.trained)

    def new_state(self, placed: Placed, dtype: torch.dtype) -> torch.Tensor:
        """A state tensor of a parameter, zero, where its states rest."""
        return self._zeros(placed.shape, dtype, placed.states == "host")

    def finish_copies(self) -> None:
        """Return when what rests in host memory is there, so that the host may read it."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def host_leaves(self, batch: Any) -> list[torch.Tensor]:
        """The leaves of a batch that wait in host memory."""
        return self._placer.in_host(batch)

    def host_values(self) -> list[torch.Tensor]:
        """The parameters and states that rest in host memory."""
        trained = [p for p in self.program.parameters if p.trained and p.states == "host"]
        found: list[torch.Tensor] = [
            self.parameters[p.key] for p in self.program.parameters if p.memory == "host"
        ]
        if self.optimizer is not None:
            for placed in trained:
                found += shaped_states(self.optimizer, self.parameters[placed.key]).values()
        return found

    def _zeros(self, shape: tuple[int, ...], dtype: torch.dtype, in_host: bool) -> torch.Tensor:
        """Zeros on the device, or in host memory that the device can copy from while it works."""
        if in_host and self.device.type == "cuda":
            return torch.zeros(shape, dtype=dtype, pin_memory=True)
        return torch.zeros(shape, dtype=dtype, device=self.device)

    def _new_buffer(self, placed: Placed) -> torch.Tensor:
        entry = self.program.manifest["buffers"][placed.name]
        return torch.zeros(placed.shape, dtype=as_dtype(entry["dtype"]), device=self.device)

    def _make_optimizer(self, factory: OptimizerFactory | None) -> torch.optim.Optimizer | None:
        trained = [(p.name, self.parameters[p.key]) for p in self.program.parameters if p.trained]
        if factory is None or not trained:
            return None
        optimized = self.program.manifest["optimized"]
        wholes = {n: stand_in(shape, as_dtype(d), self.device) for n, shape, d in optimized}
        return optimizer_of_parts(factory, trained, wholes)

    def _canonical_names(self) -> dict[str, str]:
        entries = {**self.program.manifest["parameters"], **self.program.manifest["buffers"]}
        return {
            alias: name for name, entry in entries.items() for alias in entry.get("aliases", ())
        }


def _by_place(
    mine: Iterable[Placed], theirs: Iterable[Placed], values: Mapping[Key, T]
) -> dict[Key, T]:
    """By my keys, the values that are placed under theirs."""
    held = {_place(placed): values[placed.key] for placed in theirs}
    wanted = {_place(placed): placed.key for placed in mine}
    if apart := sorted({place[0] for place in held.keys() ^ wanted.keys()}):
        raise WeightsError(
            f"{', '.join(apart[:4])}: the program for batches of this shape places them otherwise "
            "than the one before; pad the batches to one shape, or name the axes that the plan "
            "leaves to `auto`"
        )
    return {key: held[place] for place, key in wanted.items()}


def _place(placed: Placed) -> tuple[Any, ...]:
    return placed.name, placed.slots, placed.box, placed.trained, placed.memory, placed.states


def _fill(value: torch.Tensor, placed: Placed, whole: torch.Tensor) -> None:
    expected = [prod(dim) for dim in placed.slots]
    if list(whole.shape) != expected:
        raise WeightsError(
            f"{placed.name} has shape {list(whole.shape)}, the program was compiled for {expected}"
        )
    with torch.no_grad():
        value.copy_(take(whole, placed.slots, placed.box))

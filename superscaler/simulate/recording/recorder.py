"""Recorder: runs an emitted function on tensors without memory, and notes what it does.

The function's own lines run, in the runtime's own context, on PyTorch's meta device: views, copies
and the lifetimes of all storages are those of the real call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from superscaler.emit.function import Function
from superscaler.runtime.context import Context
from superscaler.runtime.copies import Copies
from superscaler.runtime.kernels.host import TO_HOST
from superscaler.runtime.pending import Pending, resolve
from superscaler.runtime.storages import StorageTracker
from superscaler.simulate.recording.communicator import RecordingCommunicator
from superscaler.simulate.recording.copies import RecordingCopies
from superscaler.simulate.recording.kernels import Kernels
from superscaler.simulate.recording.record import (
    Arrival,
    Form,
    Free,
    Given,
    Kernel,
    Output,
    Record,
    Run,
    Step,
    Take,
)

Code = Callable[[Any, dict[int, Any]], tuple[Any, ...]]
OptimizerStep = Callable[[Mapping[Any, torch.Tensor]], None]
META = torch.device("meta")


def compiled(function: Function) -> Code:
    """The function, telling its context of every line, taking over what it is given."""
    out = ["def call(ctx, _given):"]
    out += [f"    {name} = _given.pop({i})" for i, (name, _) in enumerate(function.reads)]
    for number, (line, gone) in enumerate(function.statements()):
        out += [f"    ctx.at({number})", f"    {line.text}"]
        out += [f"    del {', '.join(gone)}"] if gone else []
    values = "".join(f"{variable}, " for variable, _ in function.writes)
    out.append(f"    return ({values})")
    space: dict[str, Any] = {
        "torch": torch,
        "aten": torch.ops.aten,
        "ss": torch.ops.superscaler,
    }
    exec("\n".join(out), space)
    code: Code = space["call"]
    code.__doc__ = function.doc
    return code


class Recorder(StorageTracker):  # type: ignore[no-untyped-call]
    """Notes one call on a rank whose kernels are `kernels`."""

    def __init__(self, rank: int, kernels: Kernels) -> None:
        super().__init__()
        self.steps: list[Step] = []
        self.kernels: list[Kernel] = []
        self.line = 0
        self.communicator = RecordingCommunicator(rank, kernels.is_cuda, self.steps.append)
        self._is_cuda = kernels.is_cuda
        self._kernels = kernels
        self._numbers: dict[int, int] = {}
        self._count = 0
        self._is_paused = False
        self._is_quiet = False

    def record(
        self,
        code: Code,
        given: Sequence[Given],
        constants: Mapping[str, Any],
        optimizer_step: OptimizerStep,
    ) -> Record:
        """What `code` does with values of these forms."""
        context = _LineContext(self, constants, optimizer_step)
        values = self._made(given)
        num_given = self._count
        with self, torch.no_grad():
            returned = code(context, values)
            steps = tuple(self.steps)
            sent = tuple(dict.fromkeys(self._number(x) for x in self.communicator.sent))
            outputs, arrivals = self._outputs(list(returned), num_given)
            self._is_paused = True
        return Record(
            steps,
            tuple(self.kernels),
            tuple(self.communicator.found),
            tuple(outputs),
            tuple(arrivals),
            sent,
            num_given,
        )

    def apart(self, action: Callable[[], Any]) -> Any:
        """Run something that is no part of the call; the storages it makes are not noted."""
        self._is_paused = True
        try:
            return action()
        finally:
            self._is_paused = False

    def quietly(self, action: Callable[[], Any]) -> Any:
        """Run something whose storages are noted, but no kernels."""
        self._is_quiet = True
        try:
            return action()
        finally:
            self._is_quiet = False

    def copies(self) -> Copies:
        """The copies of the rank that is recorded."""
        return RecordingCopies(self.communicator, self.quietly) if self._is_cuda else Copies()

    # what the tracker sees

    def came(self, number: int, num_bytes: int) -> None:
        if not self._is_paused:
            self._note_take(number, self._rounded(num_bytes), False)

    def came_to_host(self, number: int, num_bytes: int) -> None:
        if not self._is_paused:
            self._note_take(number, num_bytes, True)

    def _note_take(self, number: int, num_bytes: int, in_host: bool) -> None:
        self._numbers[number] = self._count
        self.steps.append(Take(self._count, num_bytes, self.line, in_host))
        self._count += 1

    def went(self, number: int) -> None:
        storage = self._numbers.pop(number, None)
        if storage is not None:
            self.steps.append(Free(storage))

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        result, took = self._kernels.call(func, args, kwargs)
        self.see(result, func is TO_HOST)
        if took is not None and not (self._is_paused or self._is_quiet):
            self.kernels.append(replace(took, line=self.line))
            self.steps.append(Run(took.duration_us, len(self.kernels) - 1))
        return result

    # inside

    def _rounded(self, num_bytes: int) -> int:
        """CUDA's allocator hands out blocks of 512 bytes."""
        return -(-num_bytes // 512) * 512 if self._is_cuda else num_bytes

    def _made(self, given: Sequence[Given]) -> dict[int, Any]:
        """Tensors of the given forms; what shares a storage there shares one here."""
        bases: dict[int, torch.Tensor] = {}

        def make(form: Form) -> torch.Tensor:
            if form.storage not in bases:
                base = torch.empty(form.storage_bytes, dtype=torch.uint8, device=META)
                bases[form.storage] = base
            empty: Any = torch.empty(0, dtype=form.dtype, device=META)
            storage = bases[form.storage].untyped_storage()
            made: torch.Tensor = empty.set_(storage, form.offset, form.shape, form.stride)
            return made

        values = {
            i: {t: make(f) for t, f in g.items()} if isinstance(g, dict) else make(g)
            for i, g in enumerate(given)
        }
        self.apart(lambda: self.see(list(bases.values())))
        for storage, base in sorted(bases.items()):
            self._numbers[base.untyped_storage()._cdata] = storage
        self._count = 1 + max(bases, default=-1)
        return values

    def _number(self, tensor: torch.Tensor) -> int:
        return self._numbers.get(tensor.untyped_storage()._cdata, -1)

    def _form(self, tensor: torch.Tensor) -> Form:
        storage = tensor.untyped_storage()
        return Form(
            tuple(tensor.shape),
            tuple(tensor.stride()),
            tensor.dtype,
            int(tensor.storage_offset()),
            self._number(tensor),
            self._rounded(storage.nbytes()),
        )

    def _outputs(self, returned: list[Any], num_given: int) -> tuple[list[Output], list[Arrival]]:
        """The forms of what was returned; what is under way arrives now, one after the other."""
        pending: dict[frozenset[int], list[int]] = {}
        for i, value in enumerate(returned):
            if type(value) is Pending:
                pending.setdefault(_roots(value), []).append(i)
        arrivals, family = [], {}
        for number, members in enumerate(pending.values()):
            before = set(self._numbers.values())
            at = len(self.steps)
            came = [resolve(returned[i]) for i in members]
            steps = tuple(self.steps[at:])
            gone = {s.storage for s in steps if isinstance(s, Free)} & before
            kept = {self._number(x) for x in came} & before
            arrivals.append(Arrival(tuple(sorted(gone | kept)), steps, tuple(members)))
            family.update(dict.fromkeys(members, number))
        outputs = [
            Output(self._form(resolve(value)), family.get(i, -1))
            for i, value in enumerate(returned)
        ]
        return outputs, arrivals


class _LineContext(Context):
    """The runtime's context, on meta tensors; it knows which line runs."""

    def __init__(
        self, recorder: Recorder, constants: Mapping[str, Any], optimizer_step: OptimizerStep
    ) -> None:
        copies = recorder.copies()
        super().__init__(constants, recorder.communicator, META, optimizer_step, copies)
        self._recorder = recorder

    def at(self, line: int) -> None:
        """Line number `line` runs from now on."""
        self._recorder.line = self._recorder.communicator.line = line


def _roots(pending: Pending) -> frozenset[int]:
    """Identifies the communications that a value waits for: values with equal ones come at once."""
    found, stack = set(), [pending]
    while stack:
        at = stack.pop()
        inner = [c.cell_contents for c in getattr(at._finish, "__closure__", None) or ()]
        deeper = [p for p in inner if type(p) is Pending]
        stack += deeper
        if not deeper:
            found.add(id(at))
    return frozenset(found)

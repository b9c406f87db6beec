"""Scripts of ranks: recorded functions, played through in the order of the rank's schedule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any, Protocol

import torch

from superscaler.emit.files import rank_tables
from superscaler.emit.listing import Listing
from superscaler.emit.owned import OwnedTables
from superscaler.materialize.program import Program
from superscaler.runtime.data import as_dtype
from superscaler.runtime.program import Placed, RankProgram, Task, load_tables, read_manifest
from superscaler.runtime.shards import take
from superscaler.runtime.timeline import Entry, Timeline, timeline
from superscaler.simulate.machine import Machine
from superscaler.simulate.recording.constants import marked, signature
from superscaler.simulate.recording.optimizer import homes_of, optimizer_step, scalar_bytes
from superscaler.simulate.recording.record import Communication, Form, Given, Record, contiguous
from superscaler.simulate.recording.recorder import META, Recorder, compiled
from superscaler.simulate.recording.work import addition_work
from superscaler.simulate.scripts.labels import Labels
from superscaler.simulate.scripts.replay import Rules, replay
from superscaler.simulate.scripts.script import EVERYONE, Script
from superscaler.simulate.scripts.values import Held, Storage
from superscaler.simulate.simulation import Holder


class Compiled(Protocol):
    """What is simulated: a compiled program."""

    @property
    def program(self) -> Program: ...
    @property
    def listing(self) -> Listing: ...
    @property
    def files(self) -> dict[str, str]: ...


@dataclass
class ScriptMaker:
    """Makes scripts; functions are recorded once for all that call them alike."""

    compiled: Compiled
    machine: Machine
    records: dict[str, dict[object, Record]] = field(default_factory=dict)  # by function
    tasks: dict[str, Task] = field(default_factory=dict)  # by function
    forms: dict[object, Hashable] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.listing = self.compiled.listing
        self.constants = self.listing.emission.constants
        self.labels = Labels(self.compiled.program, self.listing)
        self.owned = OwnedTables(self.compiled.program, self.listing.emission.parts)
        self.manifest = read_manifest(self.compiled.files)
        self.used = {n: f.constants() for n, f in self.listing.functions.items()}
        graph = self.compiled.program.partition.graph
        self.state_bytes = {
            graph.tensors[u.param].name: sum(
                graph.tensors[t].dtype.itemsize for _, t, _ in u.states
            )
            for u in graph.updates
        }
        self.scalar_bytes = scalar_bytes(graph.optimizer)
        self.homes = homes_of(self.compiled.program)
        self.num_states = max((len(u.states) for u in graph.updates), default=0)

    def key(self, rank: int) -> Hashable:
        """Ranks with equal keys have equal scripts."""
        schedule = tuple(self.listing.schedules[rank])
        uses = dict.fromkeys((c, t) for name, t in schedule for c in self.used[name])
        found: dict[Hashable, None] = {}
        for constant, time in uses:
            fixed = self.constants.is_fixed(constant, rank)
            if fixed and (constant, None) in found:
                continue
            value = marked(self.constants, (constant,), rank, time)
            found[constant, None if fixed else time, signature(value, rank)] = None
            if fixed:
                found[constant, None] = None
        return (schedule, self.machine.kind(rank), tuple(found))

    def make(self, rank: int) -> Script:
        """The script of a rank."""
        program = self._program(rank)
        found = timeline(program)
        resting = self._resting(program, found)
        resident, in_host = self._states(program)
        keys = {number: key for key, number in found.numbers.items()}
        duration = self.machine.duration_us(rank)
        rules = Rules(
            lambda entry, forms: self._record(rank, entry, forms),
            lambda form: duration(addition_work(form)),
            lambda number: self.labels.of_value(keys[number][0]),
        )
        played = replay(
            found,
            resting,
            (resident, in_host),
            rules,
            _sharing(program),
        )
        stored = {h.storage for h in resting.values()}
        resident += sum(s.num_bytes for s in stored if s.label != "batch" and not s.in_host)
        return Script(
            played.calls,
            played.actions,
            played.postings,
            resident,
            played.peak_bytes,
            self._holders(played.at_peak, program),
            played.host_peak_bytes,
        )

    def _program(self, rank: int) -> RankProgram:
        """A rank's program; its functions tell their context of every line."""
        schedule = self.listing.schedules[rank]
        for name in dict.fromkeys(name for name, _ in schedule):
            if name not in self.tasks:
                function = self.listing.functions[name]
                reads, writes = (
                    tuple(spec for _, spec in specs) for specs in (function.reads, function.writes)
                )
                self.tasks[name] = Task(compiled(function), reads, writes)
        tables = rank_tables(self.compiled.program, self.owned, rank)
        return load_tables(self.manifest, tables, rank, self.tasks, schedule)

    def _record(self, rank: int, entry: Entry, forms: tuple[Given, ...]) -> Record:
        name, time = entry.name, entry.time
        constants = marked(self.constants, self.used[name], rank, time)
        kind = self.machine.kind(rank)
        key = (kind, signature(constants, rank), _hashable(forms))
        known = self.records.setdefault(name, {})
        if key not in known:
            is_cuda = self.machine.is_cuda(rank)
            recorder = Recorder(rank, self.machine.kernels(rank))
            text = self.compiled.program.partition.graph.optimizer
            apart, copies = recorder.apart, recorder.copies()
            step = optimizer_step(text, self.num_states, is_cuda, apart, copies, self.homes)
            known[key] = recorder.record(entry.function, forms, constants, step)
        return known[key]

    # what is there before the step

    def _resting(self, program: RankProgram, found: Timeline) -> dict[int, Held]:
        """Parameters, buffers and batch by number."""
        values: dict[int, Held] = {}
        is_cuda = self.machine.is_cuda(program.rank)
        for kind, table in (("parameters", program.parameters), ("buffers", program.buffers)):
            for placed in table:
                dtype = as_dtype(program.manifest[kind][placed.name]["dtype"])
                form = contiguous(placed.shape, dtype, 0)
                in_host = placed.memory == "host"
                size = _rounded(form.storage_bytes, is_cuda and not in_host)
                values[found.numbers[placed.key]] = Held(form, Storage(size, kind, 1, in_host))
        leaves: dict[int, Storage] = {}
        for placed in program.inputs:
            if placed.key in found.read_inputs:
                leaf = program.manifest["batch"]["leaves"][placed.name]
                values[found.numbers[placed.key]] = _part_of(leaf, placed, leaves, is_cuda)
        return values

    def _states(self, program: RankProgram) -> tuple[int, int]:
        """The bytes of the optimizer's states, on the device and in host memory; single numbers of
        theirs are on the CPU, always."""
        trained = [placed for placed in program.parameters if placed.trained]
        total = {"device": 0, "host": 0}
        for p in trained:
            total[p.states] += prod(p.shape) * self.state_bytes.get(p.name, 0)
        if not self.machine.is_cuda(program.rank):
            total["device"] += self.scalar_bytes * len(trained)
        return total["device"], total["host"]

    def _holders(
        self, at_peak: tuple[tuple[str, int], ...], program: RankProgram
    ) -> tuple[Holder, ...]:
        """Bytes by label, largest first."""
        total: Counter[str] = Counter()
        for label, num_bytes in at_peak:
            function, _, line = label.partition("\0")
            text = self.labels.of_line(function, int(line)) if line else label
            total[text] += num_bytes
        total["optimizer states"] += self._states(program)[0]
        ranked = sorted(total.items(), key=lambda item: (-item[1], item[0]))
        return tuple(Holder(name, size) for name, size in ranked if size)


def _part_of(
    leaf: Mapping[str, Any], placed: Placed, leaves: dict[int, Storage], is_cuda: bool
) -> Held:
    """A rank's part of a batch leaf: on a CPU mostly a view of the whole, which the user holds."""
    dtype, in_host = as_dtype(leaf["dtype"]), placed.memory == "host"
    whole = torch.empty(leaf["shape"], dtype=dtype, device=META)
    part = take(whole, placed.slots, placed.box)
    shares = part.untyped_storage()._cdata == whole.untyped_storage()._cdata
    if is_cuda or not shares:
        form = contiguous(placed.shape, dtype, 0)
        size = _rounded(form.storage_bytes, is_cuda and not in_host)
        return Held(form, Storage(size, "batch", in_host=in_host))
    storage = leaves.setdefault(placed.name, Storage(whole.nbytes, "batch", 1, in_host))
    shape, stride = tuple(part.shape), tuple(part.stride())
    return Held(Form(shape, stride, dtype, int(part.storage_offset()), 0, whole.nbytes), storage)


def _rounded(num_bytes: int, is_cuda: bool) -> int:
    return -(-num_bytes // 512) * 512 if is_cuda else num_bytes


def _sharing(program: RankProgram) -> Communication | None:
    """The message that brings the results to all ranks, as `runtime.results` sends it."""
    if program.world_size == 1:
        return None
    results = program.manifest["results"]
    owners = [results["loss"], *results.get("metrics", {}).values()]
    owners += [results["grad_norm"]] if results.get("grad_norm") is not None else []
    kind = "broadcast" if len({str(owner) for owner in owners}) == 1 else "all_reduce"
    return Communication(kind, 8 * len(owners), EVERYONE, 0)


def _hashable(forms: tuple[Given, ...]) -> Hashable:
    return tuple(tuple(f.items()) if isinstance(f, dict) else f for f in forms)

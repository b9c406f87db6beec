"""Validator and simulator on random orders of real programs: they accept and refuse the same."""

from __future__ import annotations

import random
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path

import pytest
from subjects import mlp

sys.path.append(str(Path(__file__).parents[2] / "tools"))

from fuzzing.trial import plan_of, subject_of

from superscaler.cluster import Cluster
from superscaler.compiler import CompiledProgram
from superscaler.emit.listing import Entry, Listing
from superscaler.emit.parse import Entry as Parsed
from superscaler.emit.parse import Files, key_of, parse_files
from superscaler.emit.validate import check_files
from superscaler.errors import SuperScalerError
from superscaler.materialize.program import Program
from superscaler.schedule.memory import peaks
from superscaler.schedule.problem import Problem
from superscaler.schedule.replay import replay
from superscaler.schedule.task_problem import task_problem
from superscaler.search.step_costs import step_costs
from superscaler.simulate.machine import Machine
from superscaler.simulate.scripts.maker import ScriptMaker
from superscaler.simulate.scripts.script import Script
from superscaler.simulate.simulate import simulate_with
from superscaler.simulate.simulation import Simulation

PLANS = (
    "pipeline(pp=2, microbatches=4)",
    "pipeline(pp=2, microbatches=4, order='zb_h1')",
    "pipeline(pp=4, microbatches=4, order='gpipe')",
    "hybrid(dp=2, pp=2, microbatches=2, zero=1)",
    "hybrid(dp=2, tp=2, zero=1)",
)
NUM_FUZZED = 3
NUM_ORDERS = 1000 // (len(PLANS) + NUM_FUZZED)
Schedules = dict[int, list[int]]  # rank -> numbers of its entries


@dataclass(frozen=True)
class Reordered:
    """A program whose ranks follow other orders, as `simulate` takes it."""

    program: Program
    listing: Listing
    files: dict[str, str]


@dataclass
class Remembering(ScriptMaker):
    """Makes the script of a rank that keeps its own order once."""

    known: dict[int, Script] = field(default_factory=dict)
    own: dict[int, list[Entry]] = field(default_factory=dict)

    def make(self, rank: int) -> Script:
        if self.listing.schedules[rank] != self.own[rank]:
            return super().make(rank)
        if rank not in self.known:
            self.known[rank] = super().make(rank)
        return self.known[rank]


@dataclass(frozen=True)
class Case:
    """A program, ready to be put in other orders."""

    compiled: CompiledProgram
    parsed: Files
    maker: Remembering

    def entries(self, rank: int) -> tuple[Parsed, ...]:
        return self.parsed.listings[self.parsed.ranks[rank].program].entries

    def problems(self, order: Schedules) -> list[str]:
        """What the validator says."""
        listings = {
            f"own_{r}": replace(
                self.parsed.listings[self.parsed.ranks[r].program],
                name=f"own_{r}",
                entries=tuple(self.entries(r)[i] for i in numbers),
                ranks=[r],
            )
            for r, numbers in order.items()
        }
        ranks = tuple(replace(rank, program=f"own_{rank.rank}") for rank in self.parsed.ranks)
        return [str(p) for p in check_files(Files(self.parsed.manifest, listings, ranks))]

    def simulated(self, order: Schedules) -> Simulation:
        """What the simulator says."""
        listing, files = self.compiled.listing, dict(self.compiled.files)
        schedules = {r: [listing.schedules[r][i] for i in order[r]] for r in order}
        for r, schedule in schedules.items():
            if schedule == listing.schedules[r]:
                continue
            program = self.parsed.ranks[r].program
            files[f"rank_{r}.py"] = files[f"rank_{r}.py"].replace(
                f'PROGRAM = "{program}"', f'PROGRAM = "own_{r}"'
            )
            text = files[f"{program}.py"]
            files[f"own_{r}.py"] = text[: text.index("SCHEDULE = ")] + f"SCHEDULE = {schedule}\n"
        changed = Reordered(self.compiled.program, replace(listing, schedules=schedules), files)
        return simulate_with(replace(self.maker, compiled=changed))

    @cached_property
    def problem(self) -> Problem:
        """Its tasks, for the scheduler, without the plan's own order."""
        program = self.compiled.program
        found = task_problem(program.tasks, step_costs(program, self.compiled.cluster))
        return replace(found, edges=tuple(e for e in found.edges if e.kind == "data"))

    def memory(self, order: Schedules, found: Simulation) -> list[float]:
        """By rank: the simulated peak over what the tasks in this order hold."""
        tasks, listing = self.compiled.program.tasks, self.compiled.listing
        problem = self.problem
        lines: list[list[int] | None] = []
        for lane in problem.lanes:
            if lane.kind != "compute":  # what is sent goes when it is ready
                lines.append(None)
                continue
            rank = lane.devices[0]
            calls = [listing.schedules[rank][i] for i in order[rank]]
            lines.append(
                [
                    tasks.number[listing.segment_of[name], time]
                    for name, time in calls
                    if name in listing.segment_of
                ]
            )
        counted = peaks(problem, replay(problem, lines))
        simulated = {rank: c.peak_bytes for c in found.classes for rank in c.ranks}
        return [simulated[m.devices[0]] / p for m, p in zip(problem.memories, counted)]


@cache
def cases() -> tuple[Case, ...]:
    """Pipelines and others of small models, and what the fuzzer makes up, on several ranks."""
    programs = [mlp().compile(plan) for plan in PLANS]
    programs += list(fuzzed())
    found = []
    for program in programs:
        maker = Remembering(
            program, Machine(Cluster(program.world_size)), own=program.listing.schedules
        )
        found.append(Case(program, parse_files(program.files), maker))
    return tuple(found)


def fuzzed() -> Iterator[CompiledProgram]:
    """The first plans of random models that are accepted, on more than one device."""
    for model in range(NUM_FUZZED):
        subject = subject_of(0, model)
        for number in range(model, 1000, NUM_FUZZED):
            try:
                program = subject.compiled(plan_of(0, number, subject))
            except SuperScalerError:
                continue
            lengths = [len(s) for s in program.listing.schedules.values()]
            if 1 < len(lengths) < 5 and min(lengths) > 3 and sum(lengths) < 80:
                yield program
                break


def shuffled(case: Case, draw: random.Random) -> Schedules:
    """The ranks' own orders with some entries elsewhere, mostly where their values allow it."""
    order = {r: list(range(len(case.entries(r)))) for r in range(case.compiled.world_size)}
    for _ in range(draw.choice((0, 1, 1, 2, 3, 5))):
        rank = draw.randrange(case.compiled.world_size)
        line, entries = order[rank], case.entries(rank)
        if len(line) < 2:
            continue
        at, step, is_free = draw.randrange(len(line)), draw.choice((-1, 1)), draw.random() < 0.05
        for _ in range(draw.randint(1, 6)):
            to = at + step
            if not 0 <= to < len(line):
                break
            if not is_free and depend(entries[line[at]], entries[line[to]]):
                break
            line[at], line[to] = line[to], line[at]
            at = to
    return order


@cache
def touched(entry: Parsed) -> tuple[frozenset[object], frozenset[object]]:
    """The values that an entry reads, those of all times by name, and those it writes."""
    reads = {key_of(s, entry) for s in entry.reads if not s.endswith("@*")}
    alls = {s.removesuffix("@*") for s in entry.reads if s.endswith("@*")}
    writes = {key_of(s.rstrip("+^"), entry) for s in entry.writes}
    return frozenset(reads | alls), frozenset(writes | {name for name, _ in writes})


def depend(a: Parsed, b: Parsed) -> bool:
    """Whether two entries have to stay in their order."""
    return bool(touched(a)[0] & touched(b)[1] or touched(b)[0] & touched(a)[1])


def verdict(problems: list[str]) -> str:
    """The kind of what the validator found."""
    if not problems:
        return "valid"
    text = "\n".join(problems)
    return "deadlock" if "deadlock: " in text else "data" if "written" in text else "mismatch"


def test_validator_and_simulator_agree_on_a_thousand_orders() -> None:
    """Accepted orders come to their end, and hold about what the task problem counts or more (it
    leaves out kernels' and messages' buffers, and takes sums and what is added to them together);
    the simulator refuses what the validator refuses."""
    count: Counter[str] = Counter()
    for number, case in enumerate(cases()):
        for trial in range(NUM_ORDERS):
            order = shuffled(case, random.Random(f"{number} {trial}"))
            problems = case.problems(order)
            kind = verdict(problems)
            count[kind] += 1
            if kind == "valid":
                found = case.simulated(order)
                assert found.step_us > 0
                assert number >= len(PLANS) or min(case.memory(order, found)) >= 0.95
                continue
            with pytest.raises(SuperScalerError) as caught:
                case.simulated(order)
            if kind == "deadlock" and len(problems) == 1:
                first, *rest = str(caught.value).splitlines()
                assert first == "the ranks wait for each other and never go on"
                stand = r"  rank \d+ stands at \w+ of \w+\(.*\) and waits for rank \d+: "
                assert len(rest) > 2
                assert all(re.match(stand, line) for line in rest[:-1])
    assert sum(count.values()) == 1000
    assert min(count[kind] for kind in ("valid", "deadlock", "mismatch", "data")) >= 20, count

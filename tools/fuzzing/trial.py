"""A trial: one random plan of one random model, compiled, run and compared with eager PyTorch."""

from __future__ import annotations

import re
import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from types import TracebackType

import torch

import superscaler as ss
from fuzzing.models import random_workload
from fuzzing.partitions import Script, random_script
from fuzzing.plans import random_plan
from superscaler.compiler import CompiledProgram
from superscaler.errors import InvalidProgramError, SuperScalerError
from superscaler.graph.axis import Axes
from superscaler.graph.graph import Graph
from superscaler.plan import Plan
from superscaler.trace.axes import infer_axes
from superscaler.verify import Expected, Report, expect, verify_program
from superscaler.workload import Workload, cast

ACCEPTED, REFUSED, FAILED = "accepted", "refused", "failed"
STEPS = 2
COMPILE_LIMIT_S = 60
RUN_LIMIT_S = 60.0


@dataclass(frozen=True)
class Subject:
    """A traced model and what eager PyTorch makes of it."""

    workload: Workload
    graph: Graph
    axes: Axes
    expected: Expected

    def compiled(self, plan: Plan | Script) -> CompiledProgram:
        """The program of a plan; raises SuperScalerError where the plan is refused."""
        made = plan.apply(self.graph, self.axes) if isinstance(plan, Script) else plan
        return ss.compile(self.graph, made, axes=self.axes)


@dataclass(frozen=True)
class Outcome:
    """What became of one plan; `why` is the class of its error, `detail` all of it."""

    number: int
    subject: str
    kind: str
    verdict: str
    why: str = ""
    detail: str = ""
    seconds: float = 0.0
    devices: int = 0
    is_split: bool = False
    conversions: Counter[str] = field(default_factory=Counter)


def subject_of(seed: int, number: int) -> Subject:
    """Random model `number` of a seed, traced."""
    workload = cast(random_workload(Random(f"model {seed} {number}")), torch.float64)
    graph = ss.trace(
        workload.step,
        workload.model,
        workload.batch,
        workload.optimizer,
        clip_grad_norm=workload.clip_grad_norm,
    )
    return Subject(workload, graph, infer_axes(graph), expect(workload, STEPS))


def plan_of(seed: int, number: int, subject: Subject) -> Plan | Script:
    """Random plan `number` of a seed, for the subject."""
    rng = Random(f"plan {seed} {number}")
    make = random_plan if rng.random() < 0.5 else random_script
    return make(rng, subject.graph, subject.axes)


def attempt(number: int, subject: Subject, plan: Plan | Script, on_processes: bool) -> Outcome:
    """Compile and run the plan, and compare; no error gets out of here but an interrupt."""
    begin = time.perf_counter()
    trial = _Trial(subject, plan, on_processes)
    with _Caught() as caught:
        trial.run()
    verdict, why, detail = _judge(trial, caught.error)
    program = trial.program
    parts = [p.grid for p in program.program.partition.placed] if program else []
    return Outcome(
        number,
        type(subject.workload.model).__name__,
        type(plan).__name__,
        verdict,
        why,
        detail,
        time.perf_counter() - begin,
        len({int(d) for grid in parts for d in grid.devices.ravel()}),
        any(grid.devices.size > 1 for grid in parts),
        _conversions(program) if program else Counter(),
    )


class _Trial:
    def __init__(self, subject: Subject, plan: Plan | Script, on_processes: bool) -> None:
        self.subject, self.plan, self.on_processes = subject, plan, on_processes
        self.program: CompiledProgram | None = None
        self.reports: list[Report] = []

    def run(self) -> None:
        subject = self.subject
        with _TimeLimit(COMPILE_LIMIT_S):
            self.program = subject.compiled(self.plan)
        for processes in (False, True) if self.on_processes else (False,):
            self.reports.append(
                verify_program(
                    subject.workload,
                    self.program.files,
                    expected=subject.expected,
                    processes=processes,
                    timeout=RUN_LIMIT_S,
                )
            )


def _judge(trial: _Trial, error: BaseException | None) -> tuple[str, str, str]:
    """Verdict, class of error, and details."""
    if error is not None:
        text = "".join(traceback.format_exception(error))
        root = error.__cause__ or error
        why = f"{type(root).__name__}: {classed(str(root))}"
        is_fault = isinstance(error, InvalidProgramError)
        if isinstance(error, SuperScalerError) and trial.program is None and not is_fault:
            return REFUSED, why, str(error)
        return FAILED, f"{'run' if trial.program else 'compile'} {why}", text
    for report in trial.reports:
        if not report.ok:
            rows = [f"{r.kind} {r.name}: {r.error:.1e} {r.where}" for r in report.failures[:6]]
            kinds = sorted({r.kind for r in report.failures})
            return FAILED, f"differs: {', '.join(kinds)}", "\n".join([report.summary, *rows])
    return ACCEPTED, "", ""


def classed(message: str) -> str:
    """The first line of an error without its names and numbers, to count errors of one kind."""
    line = re.sub(r"\(<superscaler.*?>.*\)|\(.*?\)", "()", message.split("\n")[0])
    line = re.sub(r"; use .*", "", line)
    line = re.sub(r"(op_\w+\().*?([,)])", r"\1...\2", line)
    line = re.sub(r"'[^']*'|\[[^]]*\]", "...", line)
    line = re.sub(r"[\w./*]*[._/][\w./*:]+|\d[\d.e-]*", "_", line)
    return line[:110]


def _conversions(program: CompiledProgram) -> Counter[str]:
    """Conversions by kind: the general path, or the collectives of the regular one."""
    found: Counter[str] = Counter()
    for conversion in program.program.conversions:
        route = conversion.route
        if route.paths is None:
            found["general"] += 1
            continue
        steps = next(iter(route.paths.values())).steps
        kinds = [*([f"join {route.collapse}"] if route.collapse else []), *(s.kind for s in steps)]
        found["+".join(kinds) or "local"] += 1
    return found


class _Caught:
    """A context that keeps whatever error it ends with."""

    error: BaseException | None = None

    def __enter__(self) -> _Caught:
        return self

    def __exit__(
        self, kind: object, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self.error = error
        return error is None or isinstance(error, Exception)


class _TimeLimit:
    """A context that raises TimeoutError in the main thread after some seconds."""

    def __init__(self, seconds: int) -> None:
        self.seconds = seconds
        self.before: Callable[..., object] | int | None = None

    def __enter__(self) -> None:
        self.before = signal.signal(signal.SIGALRM, self._end)
        signal.alarm(self.seconds)

    def __exit__(self, *_: object) -> None:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, self.before)

    def _end(self, *_: object) -> None:
        raise TimeoutError(f"no end after {self.seconds} s")

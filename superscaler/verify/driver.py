"""The driver of `verify`: trace, compile, train both, compare."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from superscaler.compiler import CompiledProgram, Policy, compile
from superscaler.dtypes import dtype_name
from superscaler.errors import PlanError, VerifyError
from superscaler.runtime.program import Source, read_manifest
from superscaler.trace import trace
from superscaler.trace.unseen import refuse_gradient_hooks
from superscaler.verify.accuracy import Accuracy
from superscaler.verify.compare import Comparison, compare, rounding_only
from superscaler.verify.expected import Expected, expect
from superscaler.verify.processes import train_in_processes
from superscaler.verify.ranks import train_in_threads
from superscaler.verify.report import Report, Verdict
from superscaler.verify.sensitivity import forgive_rounding
from superscaler.workload import Workload, cast

if TYPE_CHECKING:
    from superscaler.cluster import ClusterLike
    from superscaler.plan import Plan
    from superscaler.transform import Partition

Say = Callable[[str], None]


def verify(
    workload: Workload,
    plan: Plan | Partition | str | Policy,
    devices: int | None = None,
    steps: int = 2,
    dtype: torch.dtype | None = torch.float64,
    *,
    processes: bool = True,
    timeout: float = 300.0,
    seed: int | None = None,
    tolerance: float | None = None,
    cluster: ClusterLike | None = None,
    torch_compile: bool = False,
    say: Say = lambda text: None,
) -> Report:
    """Train the untouched model and the plan's ranks on the same data, and compare all results.

    Both start from equal weights. Compared are the loss and the metrics of every step, every
    gradient of the last step, the gradient norm, and every parameter, buffer and optimizer state
    after it; every rank's part of each, so that all replicas have to agree, and together the parts
    have to cover the tensor. Errors are relative to the largest magnitude of each tensor.

    A gradient that is zero but for rounding is judged against the model's largest gradient, and
    listed as such; see `superscaler.verify.rounding` for what the optimizer makes of it. What
    differs by up to 1e-6 in float64 is compared with what the untouched model makes of weights that
    are moved by their last bit, and listed apart where that is as far off
    (`superscaler.verify.sensitivity`).

    Parameters
    ----------
    devices : how many devices the plan has to use; None: as many as it says.
    dtype : parameters, buffers and batches are cast to it; None leaves them as they are.
    processes : run each rank in a process (Gloo), else all in threads of this process.
    timeout : seconds until ranks that have not finished are given up.
    seed : of weights on the meta device and of random operators; None: the workload's.
    tolerance : the largest error that is still equal; None: 1e-9 in float64, 1e-3 in float32, and
        0.1 in half precision (also where the step of a float32 model computes in it).
    torch_compile : the ranks' operators go through `torch.compile`; they have to be processes.
    say : called with what is being done.

    Raises
    ------
    TraceError, PlanError, TransformError, ... : the plan cannot be compiled for the workload.
    VerifyError : a rank failed or did not finish.
    """
    _refuse_compiled_threads(processes, torch_compile)
    refuse_gradient_hooks(workload.model)  # copies of a model lose them
    given = cast(workload, dtype) if dtype is not None else workload
    program = _compile(given, plan, cluster, devices, say)
    report = verify_program(
        given,
        program.files,
        steps=steps,
        processes=processes,
        timeout=timeout,
        seed=seed,
        tolerance=tolerance,
        torch_compile=torch_compile,
        say=say,
    )
    return replace(report, notes=(*program.notes, *report.notes))


def _refuse_compiled_threads(processes: bool, torch_compile: bool) -> None:
    if torch_compile and not processes:
        raise VerifyError(
            "torch.compile is not for ranks that are threads of one process: expected processes; "
            "leave out --in-process (processes=False), or --torch-compile"
        )


def _compile(
    workload: Workload,
    plan: Plan | Partition | str | Policy,
    cluster: ClusterLike | None,
    devices: int | None,
    say: Say,
) -> CompiledProgram:
    say("tracing the step")
    graph = trace(
        workload.step,
        workload.model,
        workload.batch,
        workload.optimizer,
        clip_grad_norm=workload.clip_grad_norm,
    )
    say("compiling the plan")
    program = compile(graph, plan, cluster)
    check_num_devices(program.world_size, devices)
    return program


def check_num_devices(needed: int, devices: int | None) -> None:
    """Raise PlanError unless the plan uses as many devices as were asked for."""
    if devices is not None and needed != devices:
        raise PlanError(
            f"the plan uses {needed} devices, {devices} were asked for; change the plan, or ask "
            f"for {needed}"
        )


def verify_program(
    workload: Workload,
    source: Source,
    *,
    expected: Expected | None = None,
    steps: int = 2,
    processes: bool = True,
    timeout: float = 300.0,
    seed: int | None = None,
    tolerance: float | None = None,
    torch_compile: bool = False,
    say: Say = lambda text: None,
) -> Report:
    """`verify` of a compiled program: its folder, or its files' texts by name.

    The workload is the one it was compiled from, in the same dtype. `expected` is what `expect`
    made of the workload before; without it the reference is trained now.
    """
    _refuse_compiled_threads(processes, torch_compile)
    start = time.perf_counter()
    if expected is None:
        say("training the untouched model")
        expected = expect(workload, steps, seed, tolerance)
    world_size = int(read_manifest(source)["world_size"])
    say(f"training {world_size} ranks")
    train = train_in_processes if processes else train_in_threads
    ranks = train(source, expected, workload.optimizer, timeout, torch_compile)
    say("comparing")
    made = forgive_rounding(compare(expected, ranks), workload)
    return Report(
        rows=tuple(made.rows),
        notes=tuple(_notes(made)),
        tolerance=expected.accuracy.tolerance,
        dtype=_dtype(workload.model, expected.accuracy),
        world_size=world_size,
        steps=expected.num_steps,
        seconds=time.perf_counter() - start,
    )


def _dtype(model: torch.nn.Module, accuracy: Accuracy) -> str:
    dtypes = {p.dtype for p in model.parameters()}
    names = " and ".join(sorted(map(dtype_name, dtypes)))
    return names if accuracy.dtype in dtypes else f"{names} and {dtype_name(accuracy.dtype)} inside"


def _notes(made: Comparison) -> list[str]:
    notes = []
    dropped = rounding_only(made.expected)
    if dropped:
        notes.append(
            f"{sum(dropped.values())} gradient elements are zero but for rounding (below "
            f"{made.expected.accuracy.rounding:g} of the largest gradient) and were taken for zero "
            f"by both optimizers, in {_some(list(dropped))}"
        )
    sensitive = [f"{r.kind} {r.name}" for r in made.rows if r.verdict is Verdict.SENSITIVE]
    if sensitive:
        notes.append(
            f"{len(sensitive)} results are further off than {made.expected.accuracy.tolerance:g}, "
            "but no further than the untouched model is from itself when its weights are moved by "
            f"their last bit: {_some(sensitive)}"
        )
    if made.not_held:
        notes.append(f"held by no rank, for the step does not use it: {_some(made.not_held)}")
    if made.replicas_apart:
        worst = max(made.replicas_apart, key=lambda name: made.replicas_apart[name])
        notes.append(
            f"replicas of {len(made.replicas_apart)} tensors are not bit for bit equal; furthest "
            f"apart, by {made.replicas_apart[worst]:.1e}, is {worst}"
        )
    return notes


def _some(names: list[str], count: int = 6) -> str:
    rest = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + rest

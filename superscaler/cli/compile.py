"""`superscaler compile`: a workload and a plan become the files of every rank."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import superscaler as ss
from superscaler.cli.options import (
    AsJson,
    ClusterName,
    Devices,
    Dtype,
    PlanText,
    ProfileFile,
    Settings,
    TimeLimit,
    WorkloadName,
    load,
    manifest_header,
    read_cluster,
    read_plan,
    trace_workload,
)
from superscaler.cli.output import Say, print_json, print_notes, print_table, progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from superscaler.compiler import CompiledProgram
    from superscaler.schedule.solver import Progress


def compile_command(
    workload: WorkloadName,
    plan: PlanText,
    settings: Settings = None,
    devices: Devices = None,
    cluster: ClusterName = None,
    dtype: Dtype = None,
    time_limit: TimeLimit = None,
    profile: ProfileFile = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            metavar="DIR",
            help="Where the files go. [default: build/FILE]",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the code of every rank.

    Examples:

        superscaler compile examples/gpt.py:workload --plan 'megatron(tp=2)' --out build/gpt

        superscaler compile examples/gpt.py:workload --plan plans/mine.yaml --devices 4
    """
    start = time.perf_counter()
    with progress(f"loading {workload}") as say:
        program = compile_named(
            workload,
            plan,
            settings,
            devices,
            cluster,
            dtype,
            say,
            time_limit=time_limit,
            profile=profile,
        )
        folder = program.save(out or default_folder(workload))
    seconds = time.perf_counter() - start
    print_notes(program.notes)
    if as_json:
        print_json(_summary(program, folder) | {"seconds": round(seconds, 3)})
    else:
        _print_summary(program, folder, seconds)


def compile_named(
    workload: str,
    plan: str,
    settings: list[str] | None,
    devices: int | None,
    cluster: str | None,
    dtype: str | None,
    say: Say,
    *,
    time_limit: float | None = None,
    profile: Path | None = None,
) -> CompiledProgram:
    """The program of a workload and a plan as the user names them."""
    read = read_plan(plan, devices, time_limit)  # before the seconds that loading and tracing take
    machine = read_cluster(cluster)
    made = load(workload, settings, dtype)
    say("tracing the step")
    graph = trace_workload(made)
    say(f"compiling for {read.num_devices} devices")
    header = manifest_header(workload, settings, dtype)
    told = order_progress(say)
    return ss.compile(graph, read, machine, header=header, profile=profile, progress=told)


def order_progress(say: Say) -> Callable[[Progress], None]:
    """Tells of the solver's best order so far in one line."""

    def tell(progress: Progress) -> None:
        say(
            f"looking for the best order: within {progress.gap:.1%} of the shortest possible "
            f"after {progress.seconds:.0f} s"
        )

    return tell


def default_folder(workload: str) -> Path:
    """Where a workload's program goes when the user does not say."""
    return Path("build") / Path(workload.rpartition(":")[0]).stem


def _summary(program: CompiledProgram, folder: Path) -> dict[str, Any]:
    return {
        "folder": str(folder),
        "world_size": program.world_size,
        "programs": program.num_programs,
        "files": sorted(program.files),
        "communications": len(program.program.conversions),
        "tasks": len(program.program.tasks.tasks),
        "notes": list(program.notes),
        "order": order_summary(program),
    }


def order_summary(program: CompiledProgram) -> dict[str, Any] | None:
    """How the solver's order came about and how good it is known to be; None without a solver."""
    if program.ordered is None:
        return None
    schedule, tick_us = program.ordered.schedule, program.ordered.problem.tick_us
    return {
        "made_by": schedule.made_by,
        "status": schedule.status,
        "length_us": round(schedule.length * tick_us, 1),
        "bound_us": round(schedule.bound * tick_us, 1),
        "gap": round(schedule.gap, 6),
        "seconds": round(schedule.seconds, 3),
    }


def order_text(program: CompiledProgram) -> str:
    """The order's quality in words."""
    schedule = program.schedule
    assert schedule is not None
    of = "of these stages " if program.placed else ""
    good = (
        f"no order {of}is shorter"
        if schedule.status == "optimal"
        else f"at most {schedule.gap:.1%} longer than the shortest"
    )
    return f"by {schedule.made_by}, {good} (on the cluster's costs)"


def _print_summary(program: CompiledProgram, folder: Path, seconds: float) -> None:
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    tasks, conversions = len(program.program.tasks.tasks), len(program.program.conversions)
    table.add_row("ranks", f"{program.world_size}, {program.num_programs} distinct programs")
    table.add_row("step", f"{tasks} tasks, {conversions} conversions of layout between operators")
    if program.schedule is not None:
        table.add_row("order", order_text(program))
    table.add_row("code", str(folder))
    table.add_row("run", f"superscaler launch {folder} --nproc-per-node {program.world_size}")
    table.add_row("took", f"{seconds:.1f} s")
    print_table(table)

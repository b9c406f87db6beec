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
    Settings,
    WorkloadName,
    load,
    manifest_header,
    read_cluster,
    read_plan,
    trace_workload,
)
from superscaler.cli.output import Say, print_json, print_notes, print_table, progress

if TYPE_CHECKING:
    from superscaler.compiler import CompiledProgram


def compile_command(
    workload: WorkloadName,
    plan: PlanText,
    settings: Settings = None,
    devices: Devices = None,
    cluster: ClusterName = None,
    dtype: Dtype = None,
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
        program = compile_named(workload, plan, settings, devices, cluster, dtype, say)
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
) -> CompiledProgram:
    """The program of a workload and a plan as the user names them."""
    read = read_plan(plan, devices)  # before the seconds that loading and tracing take
    machine = read_cluster(cluster)
    made = load(workload, settings, dtype)
    say("tracing the step")
    graph = trace_workload(made)
    say(f"compiling for {read.num_devices} devices")
    header = manifest_header(workload, settings, dtype)
    return ss.compile(graph, read, machine, header=header)


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
    }


def _print_summary(program: CompiledProgram, folder: Path, seconds: float) -> None:
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    tasks, conversions = len(program.program.tasks.tasks), len(program.program.conversions)
    table.add_row("ranks", f"{program.world_size}, {program.num_programs} distinct programs")
    table.add_row("step", f"{tasks} tasks, {conversions} conversions of layout between operators")
    table.add_row("code", str(folder))
    table.add_row("run", f"superscaler launch {folder} --nproc-per-node {program.world_size}")
    table.add_row("took", f"{seconds:.1f} s")
    print_table(table)

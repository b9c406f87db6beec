"""`superscaler verify`: the ranks against the untouched model."""

from __future__ import annotations

from typing import Annotated

import typer

import superscaler as ss
from superscaler.cli.options import (
    AsJson,
    ClusterName,
    Devices,
    PlanText,
    Settings,
    TimeLimit,
    WorkloadName,
    load,
    read_cluster,
    read_dtype,
    read_plan,
)
from superscaler.cli.output import print_notes, print_table, print_text, progress
from superscaler.dtypes import CAST_WORDS

DIFFERS = 1


def verify(
    workload: WorkloadName,
    plan: PlanText,
    settings: Settings = None,
    devices: Devices = None,
    cluster: ClusterName = None,
    time_limit: TimeLimit = None,
    steps: Annotated[int, typer.Option("--steps", min=1, help="How many steps to train.")] = 2,
    dtype: Annotated[
        str,
        typer.Option(
            "--dtype",
            metavar="DTYPE",
            help=f"{CAST_WORDS}: cast the model and the batches to it; or model: leave them as "
            "they are.",
        ),
    ] = "float64",
    tolerance: Annotated[
        float | None,
        typer.Option(
            "--tolerance",
            help="The largest relative error. [default: 1e-9 in float64, 1e-3 in float32]",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option("--seed", help="Of random operators. [default: the workload's]"),
    ] = None,
    in_process: Annotated[
        bool,
        typer.Option("--in-process", help="Run the ranks as threads of this process: no Gloo."),
    ] = False,
    torch_compile: Annotated[
        bool,
        typer.Option("--torch-compile", help="The ranks' operators go through torch.compile."),
    ] = False,
    timeout: Annotated[float, typer.Option("--timeout", help="Seconds to wait for ranks.")] = 300.0,
    every_row: Annotated[bool, typer.Option("--all", help="Print every tensor.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train the plan's ranks and the untouched model on the same data, and compare everything.

    Compared are the loss and the metrics of each step, every gradient of the last one, and every
    parameter, buffer and optimizer state after it, on every rank. Exits with 1 when something
    differs by more than the tolerance.

    Examples:

        superscaler verify examples/gpt.py:workload --plan 'zero(dp=2, stage=3)' --devices 2

        superscaler verify examples/gpt.py:workload --set dropout=0.1 --plan 'megatron(tp=2)'
        --steps 4 --in-process
    """
    read = read_plan(plan, devices, time_limit)
    machine = read_cluster(cluster)
    wanted = None if dtype == "model" else read_dtype(dtype)
    with progress(f"loading {workload}") as say:
        report = ss.verify(
            load(workload, settings),
            read,
            steps=steps,
            dtype=wanted,
            processes=not in_process,
            timeout=timeout,
            seed=seed,
            tolerance=tolerance,
            cluster=machine,
            torch_compile=torch_compile,
            say=say,
        )
    if as_json:
        print_text(report.to_json())
    else:
        color = "green" if report.ok else "bold red"
        print_notes(report.notes)
        print_table(report.table(every_row), "", f"[{color}]{report.summary}[/]")
    if not report.ok:
        raise typer.Exit(DIFFERS)

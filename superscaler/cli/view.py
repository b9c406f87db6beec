"""`superscaler view`: pictures of a plan, a program or a simulation."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from superscaler.cli.compile import compile_named
from superscaler.cli.options import (
    ClusterName,
    Devices,
    Dtype,
    OptionalPlanText,
    Settings,
    Target,
    TimeLimit,
    read_cluster,
    refuse_options,
)
from superscaler.cli.output import print_notes, print_text, progress
from superscaler.errors import PlanError, ViewError

if TYPE_CHECKING:
    from superscaler.compiler import CompiledProgram
    from superscaler.simulate.simulation import Simulation


class Format(StrEnum):
    """The kinds of picture."""

    HTML = "html"
    PERFETTO = "perfetto"
    PNG = "png"
    SVG = "svg"
    TERMINAL = "terminal"
    GRAPH = "graph"


_BY_SUFFIX = {
    ".html": Format.HTML,
    ".htm": Format.HTML,
    ".json": Format.PERFETTO,
    ".png": Format.PNG,
    ".svg": Format.SVG,
    ".txt": Format.TERMINAL,
}
_PLAIN_WIDTH = 120  # of a picture that does not go to a terminal


def view(
    target: Annotated[
        str,
        typer.Argument(
            metavar="FILE.json|DIR|FILE.py:callable",
            help="A simulation, a program's folder, or a workload (with --plan).",
            show_default=False,
        ),
    ],
    plan: OptionalPlanText = None,
    settings: Settings = None,
    devices: Devices = None,
    cluster: ClusterName = None,
    dtype: Dtype = None,
    time_limit: TimeLimit = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            metavar="FILE",
            help="Where the picture goes: .html, .json (Perfetto), .png, .svg, .txt.",
            show_default=False,
        ),
    ] = None,
    form: Annotated[
        Format | None,
        typer.Option("--format", help="The kind of picture. [default: by --out, or the terminal]"),
    ] = None,
) -> None:
    """Draw a step: who computes, waits and sends when, and what it holds in memory.

    Without --out, a picture of characters. [b]html[/] is one page for any browser, without a
    network: timeline, memory, communication, search. [b]perfetto[/] opens in ui.perfetto.dev.
    [b]graph[/] is the model's operators by module, coloured by stage, as SVG.

    Examples:

        superscaler view examples/gpt.py:workload --plan 'pipeline(pp=2, microbatches=4)'

        superscaler view build/gpt --cluster a100x16 --out step.html

        superscaler view examples/gpt.py:workload --plan 'megatron(tp=2)' --format graph -o gpt.svg
    """
    chosen = form or _format_of(out)
    if chosen not in (Format.TERMINAL, Format.GRAPH) and out is None:
        raise ViewError(f"view --format {chosen}: say where it goes, with --out FILE")
    simulation, program = _read(target, plan, settings, devices, cluster, dtype, time_limit)
    if chosen is Format.GRAPH:
        _write(_graph(target, program), out)
        return
    simulation = simulation or _simulated(target, program)
    if chosen is Format.TERMINAL and out is None:
        _print(simulation)
    else:
        _write(_picture(simulation, chosen), out)


def _format_of(out: Path | None) -> Format:
    if out is None:
        return Format.TERMINAL
    if out.suffix not in _BY_SUFFIX:
        raise ViewError(
            f"view --out {out}: no kind of picture ends in {out.suffix or 'nothing'!r}; use "
            f"{', '.join(_BY_SUFFIX)}, or say --format"
        )
    return _BY_SUFFIX[out.suffix]


def _read(
    target: str,
    plan: str | None,
    settings: list[str] | None,
    devices: int | None,
    cluster: str | None,
    dtype: str | None,
    time_limit: float | None,
) -> tuple[Simulation | None, CompiledProgram | None]:
    """A simulation from a file, or a program, compiled (again) from what the user names."""
    path = Path(target)
    if path.is_dir():
        given: dict[str, object] = {"--plan": plan, "--set": settings, "--devices": devices}
        given |= {"--dtype": dtype, "--time-limit": time_limit}
        refuse_options(f"view {target}", Target.PROGRAM, given)
        from superscaler.cli.saved import compile_saved

        with progress(f"loading {target}") as say:
            program = compile_saved(path, read_cluster(cluster), say)
        print_notes(program.notes)
        return None, program
    if ".py:" in target:
        if plan is None:
            raise PlanError(
                f"view {target}: a workload needs --plan, such as 'data_parallel(dp=2)'"
            )
        return None, _compiled(target, plan, settings, devices, cluster, dtype, time_limit)
    if not path.is_file():
        raise ViewError(
            f"view {target}: no such file or folder; give a simulation (JSON, as `superscaler "
            "simulate --out` writes it), a program's folder, or FILE.py:callable with --plan"
        )
    given = {"--plan": plan, "--set": settings, "--devices": devices}
    given |= {"--cluster": cluster, "--dtype": dtype, "--time-limit": time_limit}
    refuse_options(f"view {target}", Target.SIMULATION, given)
    from superscaler.simulate.json import read_simulation

    return read_simulation(path), None


def _compiled(
    workload: str,
    plan: str,
    settings: list[str] | None,
    devices: int | None,
    cluster: str | None,
    dtype: str | None,
    time_limit: float | None = None,
) -> CompiledProgram:
    with progress(f"loading {workload}") as say:
        program = compile_named(
            workload, plan, settings, devices, cluster, dtype, say, time_limit=time_limit
        )
    print_notes(program.notes)
    return program


def _simulated(target: str, program: CompiledProgram | None) -> Simulation:
    assert program is not None
    name = Path(target.rpartition(":")[0] or target).stem
    return program.simulate(name=name)


def _graph(target: str, program: CompiledProgram | None) -> str:
    from superscaler.view import operator_graph_svg

    if program is None:
        raise ViewError(
            f"view {target}: a simulation has no operator graph; give a program's folder, or "
            "FILE.py:callable with --plan"
        )
    return operator_graph_svg(program.program.partition, target)


def _picture(simulation: Simulation, form: Format) -> str | bytes:
    from superscaler import view as pictures

    if form is Format.HTML:
        return pictures.html_page(simulation)
    if form is Format.PERFETTO:
        return pictures.perfetto_json(simulation)
    if form is Format.TERMINAL:
        return pictures.picture_text(simulation, _PLAIN_WIDTH)
    return pictures.chart(simulation, form.value)


def _print(simulation: Simulation) -> None:
    from rich.console import Console

    from superscaler.view import terminal_picture

    console = Console(highlight=False, width=None if sys.stdout.isatty() else _PLAIN_WIDTH)
    console.print(terminal_picture(simulation, console.width), soft_wrap=True)
    if sys.stdout.isatty():
        console.print("[dim]--out FILE.html: a page with zoom, search and all operators[/]")


def _write(picture: str | bytes, out: Path | None) -> None:
    if out is None:
        print_text(str(picture))
        return
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(picture, bytes):
            out.write_bytes(picture)
        else:
            out.write_text(picture, "utf-8")
    except OSError as error:
        raise ViewError(f"view --out {out}: cannot be written: {error.strerror}") from error
    print_text(str(out))

"""`superscaler simulate`: a step's time, lanes and memory, without running it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from superscaler.cli.compile import compile_named
from superscaler.cli.options import (
    AsJson,
    ClusterName,
    Devices,
    Dtype,
    OptionalPlanText,
    ProfileFile,
    Settings,
    Target,
    TimeLimit,
    read_cluster,
    refuse_options,
)
from superscaler.cli.output import (
    print_notes,
    print_table,
    print_text,
    progress,
)
from superscaler.errors import PlanError, SimulateError
from superscaler.units import bytes_text, count_text, time_text

if TYPE_CHECKING:
    from superscaler.compiler import CompiledProgram
    from superscaler.simulate.simulation import RankClass, Simulation

SHOWN_CLASSES = 16
SHOWN_HOLDERS = 5


def simulate(
    target: Annotated[
        str,
        typer.Argument(
            metavar="DIR|FILE.py:callable",
            help="A program's folder, or a workload (with --plan).",
            show_default=False,
        ),
    ],
    plan: OptionalPlanText = None,
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
            metavar="FILE.json",
            help="Where the whole simulation goes, for superscaler view.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Predict a step: its time, what every rank does, waits for and holds, bytes on every link.

    Examples:

        superscaler simulate examples/gpt.py:workload --plan 'hybrid(tp=2, pp=2, microbatches=4)'
        --cluster a100x16

        superscaler simulate build/gpt --cluster build/measured.yaml --profile build/profile.json
        --out build/gpt.json
    """
    from superscaler.simulate.json import simulation_to_json

    with progress(f"loading {target}") as say:
        program = _program(
            target, plan, settings, devices, cluster, dtype, time_limit, profile, say
        )
        say("simulating a step")
        found = program.simulate(profile=profile, name=_name(target))
    print_notes(found.notes)
    text = simulation_to_json(found)
    if out is not None:
        _write(text, out)
    if as_json:
        print_text(text)
    else:
        _print_summary(found)


def _program(
    target: str,
    plan: str | None,
    settings: list[str] | None,
    devices: int | None,
    cluster: str | None,
    dtype: str | None,
    time_limit: float | None,
    profile: Path | None,
    say: Any,
) -> CompiledProgram:
    if Path(target).is_dir():
        given: dict[str, object] = {"--plan": plan, "--set": settings, "--devices": devices}
        given |= {"--dtype": dtype, "--time-limit": time_limit}
        refuse_options(f"simulate {target}", Target.PROGRAM, given)
        from superscaler.cli.saved import compile_saved

        return compile_saved(Path(target), read_cluster(cluster), say)
    if ".py:" not in target:
        raise PlanError(
            f"simulate {target}: no such folder; give a program's folder, or a workload "
            "FILE.py:callable with --plan"
        )
    if plan is None:
        raise PlanError(
            f"simulate {target}: a workload needs --plan, such as 'data_parallel(dp=2)'"
        )
    return compile_named(
        target, plan, settings, devices, cluster, dtype, say, time_limit=time_limit, profile=profile
    )


def _name(target: str) -> str:
    path = target.rpartition(":")[0] or target
    return Path(path).stem


def _write(text: str, out: Path) -> None:
    """Raises SimulateError when the file cannot be written."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text)
    except OSError as error:
        raise SimulateError(
            f"simulate --out {out}: cannot be written: {error.strerror}; name another file"
        ) from None


# the summary


def _print_summary(found: Simulation) -> None:
    print_table(_totals(found), "", _classes(found))
    most = max(found.classes, key=lambda c: c.peak_bytes)
    print_table("", _holders(most))
    if found.link_bytes:
        print_table("", _links(found))


def _totals(found: Simulation) -> Any:
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_row("step", time_text(found.step_us))
    table.add_row("cluster", f"{found.cluster}, {found.world_size} devices")
    rate = found.flops / found.step_us / 1e6 if found.step_us else 0.0
    table.add_row(
        "model flops",
        f"{count_text(found.flops)} a step, {rate:.3g} TFLOP/s, "
        f"{found.model_flops_utilisation:.1%} of the devices' peak",
    )
    table.add_row("devices idle", f"{found.bubble:.1%} of their time")
    table.add_row("communication", f"{time_text(found.exposed_us)} of it is not hidden")
    if found.schedule:
        made_by, gap = found.schedule.get("made_by"), found.schedule.get("gap")
        text = f"{made_by}, {found.schedule.get('status')}"
        table.add_row("order", text + (f", gap {gap:.1%}" if isinstance(gap, float) else ""))
    return table


def _classes(found: Simulation) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    titles = ["ranks", "compute", "idle", "exposed", "peak memory", "resident", "free"]
    titles += ["host memory"] if found.host_peak_bytes else []
    for title in titles:
        table.add_column(title, justify="left" if title == "ranks" else "right")
    for c in found.classes[:SHOWN_CLASSES]:
        busy = c.busy_us.get("compute", 0.0)
        idle = 1 - busy / found.step_us if found.step_us else 0.0
        left = c.capacity_bytes - c.peak_bytes
        table.add_row(
            c.name.removeprefix("ranks ").removeprefix("rank "),
            time_text(busy),
            f"{idle:.1%}",
            time_text(c.exposed_us),
            bytes_text(c.peak_bytes),
            bytes_text(c.resident_bytes),
            bytes_text(left) if left >= 0 else f"[bold red]-{bytes_text(-left)}[/]",
            *([bytes_text(c.host_peak_bytes)] if found.host_peak_bytes else []),
        )
    more = len(found.classes) - SHOWN_CLASSES
    if more > 0:
        table.add_row(f"and {more} more")
    return table


def _holders(most: RankClass) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, title_justify="left")
    table.add_column(f"at the peak of {most.name}")
    table.add_column("", justify="right")
    shown = most.holders[:SHOWN_HOLDERS]
    for holder in shown:
        table.add_row(holder.name, bytes_text(holder.num_bytes))
    rest = sum(h.num_bytes for h in most.holders[SHOWN_HOLDERS:])
    if rest:
        count = len(most.holders) - SHOWN_HOLDERS
        table.add_row(f"{count} others", bytes_text(rest))
    return table


def _links(found: Simulation) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("link")
    table.add_column("bytes a step", justify="right")
    table.add_column("most from one rank", justify="right")
    largest: Counter[str] = Counter()
    for c in found.classes:
        for link, size in c.sent_bytes.items():
            largest[link] = max(largest[link], size)
    for link, size in found.link_bytes.items():
        table.add_row(link, bytes_text(size), bytes_text(largest[link]))
    return table

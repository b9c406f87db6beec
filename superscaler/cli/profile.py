"""`superscaler profile`: the machine at hand, measured."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from superscaler.cli.options import (
    Dtype,
    Settings,
    load,
    read_dtype,
    read_settings,
    trace_workload,
)
from superscaler.cli.output import print_table, print_text, progress
from superscaler.errors import PlanError

if TYPE_CHECKING:
    from superscaler.cluster import Device
    from superscaler.cluster.profile import OperatorTime, Profile

OUT = Path("build/profile.json")
CLUSTER_OUT = Path("build/measured.yaml")
RANKS = "2,4"


def profile(
    workload: Annotated[
        str | None,
        typer.Argument(
            metavar="[FILE.py:callable]",
            help="The workload whose operators are measured, whole, in one process.",
            show_default=False,
        ),
    ] = None,
    settings: Settings = None,
    dtype: Dtype = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            metavar="FILE",
            help=f"Where the profile goes. [default: {OUT}]",
            show_default=False,
        ),
    ] = None,
    cluster_out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help=f"Where the measured cluster goes, as YAML. [default: {CLUSTER_OUT}]",
            show_default=False,
        ),
    ] = None,
    ranks: Annotated[
        str | None,
        typer.Option(
            metavar="N,N",
            help=f"Numbers of processes that communicate. [default: {RANKS}]",
            show_default=False,
        ),
    ] = None,
    check: Annotated[
        Path | None,
        typer.Option(
            metavar="PROFILE",
            help="Measure the workload's operators again, and print how far this profile and the "
            "roofline are off.",
            show_default=False,
        ),
    ] = None,
    plan: Annotated[
        str | None,
        typer.Option(
            help="With --check: run the workload's ranks under this plan as well, and print its "
            "step time and peak bytes, predicted and measured.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Measure operators and links of this machine: a profile, and a cluster for it.

    Examples:

        superscaler profile examples/gpt.py:workload

        superscaler simulate examples/gpt.py:workload --plan 'zero(dp=2)'
        --cluster build/measured.yaml --profile build/profile.json

        superscaler profile examples/gpt.py:workload --check build/profile.json

        superscaler profile examples/gpt.py:workload --check build/profile.json \\
            --plan 'zero(dp=2, stage=3)'
    """
    _refuse_what_is_idle(workload, settings, dtype, check, plan)
    if check is None or workload is None:
        _measure(workload, settings, dtype, out, cluster_out, ranks)
        return
    given = {"--out": out, "--cluster-out": cluster_out, "--ranks": ranks}
    _refuse(given, "--check writes nothing and measures no communication; leave it out")
    _check(workload, settings, dtype, check, plan)


def _refuse_what_is_idle(
    workload: str | None,
    settings: list[str] | None,
    dtype: str | None,
    check: Path | None,
    plan: str | None,
) -> None:
    """Raises PlanError for options that need a workload or --check and have none."""
    if workload is None:
        given = {"--check": check, "--plan": plan, "--set": settings, "--dtype": dtype}
        _refuse(given, "expected a workload, FILE.py:callable, to measure; add it")
    if check is None:
        _refuse({"--plan": plan}, "expected --check PROFILE with it; add it")


def _refuse(options: Mapping[str, object], why: str) -> None:
    """Raises PlanError for options, by name, that were given."""
    given = [name for name, value in options.items() if value not in (None, [])]
    if given:
        raise PlanError(f"profile {' '.join(given)}: {why}")


def _measure(
    workload: str | None,
    settings: list[str] | None,
    dtype: str | None,
    out: Path | None,
    cluster_out: Path | None,
    ranks: str | None,
) -> None:
    """Writes the profile of this machine, and the cluster."""
    from superscaler.cluster.measure import measure_device, measured_cluster
    from superscaler.cluster.profile import Profile
    from superscaler.measure.links import measure_links, possible

    out, cluster_out = out or OUT, cluster_out or CLUSTER_OUT
    counts = possible(_counts(ranks or RANKS))
    operators: tuple[OperatorTime, ...] = ()
    with progress("measuring the device") as say:
        device = measure_device()
        if workload is not None:
            say(f"measuring the operators of {workload}")
            operators = _operators(workload, settings, dtype)
        say("measuring communication")
        links = measure_links(counts)
    cluster = measured_cluster(device, links, max(counts, default=1))
    _write(Profile(device.kind, operators, links), out)
    _write_cluster(cluster.to_dict(), cluster_out)
    print_text(
        f"{device.kind}: {len(operators)} operators and {len(links)} communications in {out}; "
        f"the cluster is {cluster_out}"
    )


def _check(
    workload: str, settings: list[str] | None, dtype: str | None, check: Path, plan: str | None
) -> None:
    """Measures again, and prints how far the profile is off."""
    from superscaler.cluster.measure import measure_device
    from superscaler.cluster.profile import Profile

    known = Profile.load(check)
    with progress("measuring the device") as say:
        device = measure_device()
        say(f"measuring the operators of {workload}")
        operators = _operators(workload, settings, dtype)
    _print_errors(operators, device, known)
    if plan is not None:
        _check_step(workload, settings, dtype, plan, device, known)


def _counts(text: str) -> list[int]:
    try:
        counts = [int(n) for n in text.split(",")]
    except ValueError:
        counts = []
    if 2 not in counts or min(counts) < 2:
        raise PlanError(f"--ranks {text}: expected numbers of processes, 2 among them, such as 2,4")
    return counts


def _operators(
    workload: str, settings: list[str] | None, dtype: str | None
) -> tuple[OperatorTime, ...]:
    import torch

    from superscaler.measure.operators import measure_operators
    from superscaler.runtime.initialize import materialize_weights

    torch.set_num_threads(1)
    made = load(workload, settings, dtype)
    graph = trace_workload(made)
    model = materialize_weights(made.model)
    state = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return measure_operators(graph, {k: v.detach() for k, v in state.items()}, made.batch)


def _write(made: Profile, out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    made.save(out)


def _write_cluster(data: dict[str, object], out: Path) -> None:
    import yaml

    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(yaml.safe_dump(data, sort_keys=False))


def _print_errors(operators: tuple[OperatorTime, ...], device: Device, known: Profile) -> None:
    """Predicted against measured, by operator: medians over its shapes."""
    from rich.table import Table

    from superscaler.cluster.operators import operator_us, roofline_us

    by_target: dict[str, list[tuple[float, float, float]]] = {}
    for t in operators:
        predicted = operator_us(t.work, device, known)
        by_target.setdefault(t.work.target, []).append(
            (t.us, roofline_us(t.work, device) / t.us - 1, predicted / t.us - 1)
        )
    table = Table(box=None, pad_edge=False)
    for title in ("operator", "shapes", "measured us", "roofline", "profile"):
        table.add_column(title, justify="left" if title == "operator" else "right")
    for target, rows in sorted(by_target.items(), key=lambda i: -sum(r[0] for r in i[1])):
        middle = [statistics.median(r[k] for r in rows) for k in range(3)]
        table.add_row(
            target, str(len(rows)), f"{middle[0]:.1f}", f"{middle[1]:+.0%}", f"{middle[2]:+.0%}"
        )
    total = sum(t.us for t in operators) or 1.0
    plain = sum(roofline_us(t.work, device) for t in operators) / total - 1
    corrected = sum(operator_us(t.work, device, known) for t in operators) / total - 1
    count = str(len(operators))
    table.add_row("all of them", count, f"{total:.0f}", f"{plain:+.0%}", f"{corrected:+.0%}")
    print_table(table)


def _check_step(
    workload: str,
    settings: list[str] | None,
    dtype: str | None,
    plan: str,
    device: Device,
    known: Profile,
) -> None:
    """A real step under a plan: its time with the profile's links and kernels timed now."""
    import superscaler as ss
    from superscaler.cluster.measure import measured_cluster
    from superscaler.cluster.profile import Profile
    from superscaler.measure.steps import Job, run_real_steps

    program = ss.compile(trace_workload(load(workload, settings, dtype)), plan)
    size = program.world_size
    measured = tuple(c.ranks[0] for c in program.simulate().classes)
    job = Job(workload, program.files, measured, read_settings(settings), read_dtype(dtype))
    with progress(f"running {size} ranks"):
        found = run_real_steps([job], size, rounds=3)[0]
    cluster = measured_cluster(device, known.links, size)
    rows = []
    for name, profile in (
        ("profile", known),
        ("kernels timed now", Profile(device.kind, found.operators, known.links)),
    ):
        step_us = program.simulate(cluster, profile).step_us
        rows.append((name, step_us, step_us / found.step_us - 1))
    print_text("")
    for name, step_us, error in rows:
        print_text(
            f"step by {name}: predicted {step_us / 1e3:.1f} ms, measured "
            f"{found.step_us / 1e3:.1f} ms ({error:+.0%})"
        )
    for group in program.simulate(cluster).classes:
        real = max(found.peak_bytes[rank] for rank in group.ranks)
        print_text(
            f"{group.name}: predicted {group.peak_bytes:,} bytes, counted {real:,} "
            f"({group.peak_bytes / real - 1:+.2%})"
        )

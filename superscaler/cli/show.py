"""`superscaler show`: a plan or a program as text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import superscaler as ss
from superscaler.cli.compile import compile_named
from superscaler.cli.options import (
    AsJson,
    ClusterName,
    Devices,
    Dtype,
    OptionalPlanText,
    Settings,
    Target,
    TimeLimit,
    refuse_options,
)
from superscaler.cli.output import (
    print_json,
    print_notes,
    print_table,
    print_text,
    progress,
)
from superscaler.errors import PlanError
from superscaler.plan import find_plan, shipped_plans
from superscaler.units import bytes_text, ranks_text

if TYPE_CHECKING:
    from superscaler.cli.traffic import Traffic
    from superscaler.compiler import CompiledProgram


def show(
    target: Annotated[
        str,
        typer.Argument(
            metavar="PLAN|DIR|FILE.py:callable",
            help="A plan, a program's folder, or a workload (with --plan).",
            show_default=False,
        ),
    ],
    plan: OptionalPlanText = None,
    settings: Settings = None,
    devices: Devices = None,
    cluster: ClusterName = None,
    dtype: Dtype = None,
    time_limit: TimeLimit = None,
    as_json: AsJson = False,
) -> None:
    """Print a plan as YAML, or a program: each rank's schedule, tasks and communication.

    Of a workload with a plan, also how many bytes each communication moves, and how.

    Examples:

        superscaler show 'hybrid(tp=2, pp=2, microbatches=4)'

        superscaler show build/gpt

        superscaler show examples/gpt.py:workload --plan 'zero(dp=2, stage=3)'
    """
    given: dict[str, object] = {"--plan": plan, "--set": settings, "--devices": devices}
    given |= {"--cluster": cluster, "--dtype": dtype, "--time-limit": time_limit}
    if Path(target).is_dir():
        refuse_options(f"show {target}", Target.PROGRAM, given)
        _show_files(Path(target), as_json)
    elif ".py:" in target:
        if plan is None:
            raise PlanError(
                f"show {target}: a workload needs --plan, such as 'data_parallel(dp=2)'"
            )
        with progress(f"loading {target}") as say:
            program = compile_named(
                target, plan, settings, devices, cluster, dtype, say, time_limit=time_limit
            )
        _show_program(program, as_json)
    else:
        _check_is_plan(target)
        refuse_options(f"show {target}", Target.PLAN, given)
        _show_plan(target, as_json)


def _check_is_plan(target: str) -> None:
    """Raises PlanError for what is neither a policy call nor a plan's file."""
    if "(" not in target and find_plan(target) is None:
        raise PlanError(
            f"show {target}: no such file or folder; give a program's folder, a workload "
            "FILE.py:callable with --plan, or a plan: a YAML file, a policy call such as "
            f"'zero(dp=2, stage=3)', or one that ships: {shipped_plans()}"
        )


def _show_plan(text: str, as_json: bool) -> None:
    plan = ss.policies.parse_plan(text).to_yaml()
    if as_json:
        import yaml

        print_json(yaml.safe_load(plan))
    else:
        print_text(plan)


def _show_files(source: Any, as_json: bool) -> None:
    from superscaler.cli.program_text import program_text
    from superscaler.runtime import read_manifest

    if as_json:
        print_json(read_manifest(source))
    else:
        print_text(program_text(source))


def _show_program(program: CompiledProgram, as_json: bool) -> None:
    from dataclasses import asdict

    from superscaler.cli.traffic import traffic

    entries = traffic(program.program)
    if as_json:
        print_json(
            {
                "world_size": program.world_size,
                "programs": program.num_programs,
                "communication": [asdict(entry) for entry in entries],
                "notes": list(program.notes),
            }
        )
        return
    _show_files(program.files, as_json)
    _print_traffic(entries)
    print_notes(program.notes)


def _print_traffic(entries: list[Traffic]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in ("communication", "by", "from ranks", "to ranks", "bytes", "times"):
        table.add_column(title, justify="right" if title in ("bytes", "times") else "left")
    for entry in entries:
        by = "point to point" if entry.is_general else ", ".join(entry.kinds)
        ranks = [ranks_text(entry.sources), ranks_text(entry.targets)]
        size = bytes_text(entry.num_bytes)
        table.add_row(entry.tensor, by, *ranks, size, str(entry.num_times))
    print_table(table if entries else "nothing is communicated")

"""`superscaler launch`: a program, or a workload compiled first, under torchrun."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from superscaler.cli.compile import compile_named, default_folder
from superscaler.cli.options import (
    ClusterName,
    Devices,
    Dtype,
    OptionalPlanText,
    Settings,
    Target,
    TimeLimit,
    read_dtype,
    refuse_options,
)
from superscaler.cli.output import print_notes, print_progress, progress
from superscaler.errors import PlanError, WorkloadError

PASS_THROUGH: dict[str, Any] = {"allow_extra_args": True, "ignore_unknown_options": True}

# Of torchrun's own options, those that a launch may need; what else is given is the program's.
_TORCHRUN = (
    "--rdzv-backend",
    "--rdzv-endpoint",
    "--rdzv-id",
    "--rdzv-conf",
    "--local-addr",
    "--local-ranks-filter",
    "--master-addr",
    "--master-port",
    "--max-restarts",
    "--monitor-interval",
    "--log-dir",
    "--redirects",
    "--tee",
    "--role",
)


def launch(
    ctx: typer.Context,
    target: Annotated[
        str,
        typer.Argument(
            metavar="DIR|FILE.py:callable",
            help="A program's folder, or a workload, which is compiled first.",
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
            "-o", "--out", metavar="DIR", help="Where a compiled workload goes.", show_default=False
        ),
    ] = None,
    nproc_per_node: Annotated[
        int | None,
        typer.Option(
            "--nproc-per-node",
            min=1,
            help="Processes on this node. [default: all ranks, shared out over the nodes]",
            show_default=False,
        ),
    ] = None,
    nnodes: Annotated[int, typer.Option("--nnodes", min=1, help="How many nodes.")] = 1,
    node_rank: Annotated[
        int | None,
        typer.Option("--node-rank", min=0, help="Which node this is.", show_default=False),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the torchrun command and do not run it.")
    ] = False,
) -> None:
    """Train a program: one process per rank, under torchrun.

    --rdzv-backend, --rdzv-endpoint, --rdzv-id, --rdzv-conf, --master-addr, --master-port,
    --max-restarts and --log-dir go to torchrun. Every further option goes to the training loop:
    --steps, --seed, --weights, --checkpoint, --save-every, --resume, --log-every, --json-log,
    --memory, --timeout, --workload (see python -m superscaler.runtime --help).

    Examples:

        superscaler launch build/gpt --steps 100

        superscaler launch examples/gpt.py:workload --plan 'data_parallel(dp=2)' --steps 50

        superscaler launch build/gpt --nnodes 2 --nproc-per-node 4 --rdzv-backend c10d
        --rdzv-endpoint node0:29500
    """
    torchrun, rest = split_options(ctx.args)
    with progress("loading PyTorch"):
        _check_options(rest)  # before anything is compiled, and once, not on every rank
    folder, cast_to = _folder(target, plan, settings, devices, cluster, dtype, time_limit, out)
    count = _num_processes(folder, nproc_per_node, nnodes)
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={count}"]
    command += _meeting_point(nnodes, node_rank, torchrun)
    command += [*torchrun, "-m", "superscaler.runtime", str(folder), *rest]
    if cast_to and "--dtype" not in rest:
        command += ["--dtype", cast_to]
    if dry_run:
        sys.stdout.write(" ".join(command) + "\n")
        return
    print_progress(f"starting {count} process{'es' if count > 1 else ''}")
    raise typer.Exit(_run(command))


def _check_options(rest: list[str]) -> None:
    """Ends the command, with the training loop's words, for options that it does not take."""
    from superscaler.runtime.launch import parse

    parse(["FOLDER", *rest])


def _folder(
    target: str,
    plan: str | None,
    settings: list[str] | None,
    devices: int | None,
    cluster: str | None,
    dtype: str | None,
    time_limit: float | None,
    out: Path | None,
) -> tuple[Path, str | None]:
    """The program's folder, compiled where a workload is named, and the dtype it is cast to."""
    read_dtype(dtype)
    if Path(target).is_dir():
        given: dict[str, object] = {
            "--plan": plan,
            "--set": settings,
            "--devices": devices,
            "--cluster": cluster,
        }
        given |= {"--time-limit": time_limit, "--out": out}
        refuse_options(f"launch {target}", Target.PROGRAM, given)
        return Path(target), dtype or _manifest(Path(target)).get("dtype")
    if ".py:" not in target:
        raise WorkloadError(
            f"launch {target}: no such folder; give a program's folder, as `superscaler compile` "
            "wrote it, or a workload FILE.py:callable with --plan"
        )
    if plan is None:
        raise PlanError(f"launch {target}: a workload needs --plan, such as 'data_parallel(dp=2)'")
    with progress(f"loading {target}") as say:
        program = compile_named(
            target, plan, settings, devices, cluster, dtype, say, time_limit=time_limit
        )
        folder = program.save(out or default_folder(target))
    print_notes(program.notes)
    return folder, dtype


def _manifest(folder: Path) -> dict[str, Any]:
    from superscaler.runtime import read_manifest

    return read_manifest(folder)


def _num_processes(folder: Path, nproc_per_node: int | None, nnodes: int) -> int:
    """Processes on a node. Raises LaunchError when they do not make the program's ranks."""
    from superscaler.runtime.failures import LaunchError

    world_size = int(_manifest(folder)["world_size"])
    if nproc_per_node is None and world_size % nnodes == 0:
        return world_size // nnodes
    made = (nproc_per_node or 0) * nnodes
    if made != world_size:
        given = f"--nproc-per-node {nproc_per_node} " if nproc_per_node else ""
        raise LaunchError(
            f"launch {folder}: it was compiled for {world_size} ranks, {given}--nnodes {nnodes} "
            f"{f'makes {made}' if nproc_per_node else 'does not divide them'}; give "
            f"--nproc-per-node and --nnodes with a product of {world_size}, or compile it for "
            f"{made or nnodes} devices"
        )
    assert nproc_per_node is not None
    return nproc_per_node


def split_options(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Torchrun's options and their values, and all others, in order.

    >>> split_options(["--steps", "9", "--rdzv-id", "a", "--log-dir=x"])
    (['--rdzv-id', 'a', '--log-dir=x'], ['--steps', '9'])
    """
    torchrun: list[str] = []
    rest: list[str] = []
    queue = list(arguments)
    while queue:
        argument = queue.pop(0)
        name, equals, _ = argument.replace("_", "-").partition("=")
        if name not in _TORCHRUN:
            rest.append(argument)
            continue
        torchrun.append(argument)
        if not equals and queue:
            torchrun.append(queue.pop(0))
    return torchrun, rest


def _meeting_point(nnodes: int, node_rank: int | None, torchrun: list[str]) -> list[str]:
    """How torchrun's agents find each other: on one node, by themselves."""
    names = {option.replace("_", "-").partition("=")[0] for option in torchrun}
    if nnodes == 1 and not names & {"--rdzv-backend", "--rdzv-endpoint", "--master-port"}:
        return ["--standalone"]
    options = [f"--nnodes={nnodes}"]
    return options + ([f"--node-rank={node_rank}"] if node_rank is not None else [])


def _run(command: list[str]) -> int:
    """Run a command to its end; a user's interrupt is passed on to it by the terminal."""
    with subprocess.Popen(command) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                continue

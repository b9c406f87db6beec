"""Arguments and options that several commands take, and what they mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import superscaler as ss
from superscaler.dtypes import CAST_WORDS, cast_dtype
from superscaler.errors import PlanError, WorkloadError

if TYPE_CHECKING:
    import torch

    from superscaler.cluster import Cluster
    from superscaler.graph.graph import Graph
    from superscaler.plan import Plan
    from superscaler.workload import Workload

WorkloadName = Annotated[
    str,
    typer.Argument(
        metavar="FILE.py:callable",
        help="The workload: a callable that returns superscaler.Workload.",
        show_default=False,
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="A keyword argument of the workload's callable; may be repeated.",
        show_default=False,
    ),
]
PlanText = Annotated[
    str,
    typer.Option(
        "--plan",
        metavar="PLAN",
        help="A YAML file, a plan that ships, or a policy call: 'zero(dp=2, stage=3)'.",
        show_default=False,
    ),
]
OptionalPlanText = Annotated[
    str | None,
    typer.Option(
        "--plan",
        metavar="PLAN",
        help="A YAML file, a plan that ships, or a policy call: 'zero(dp=2, stage=3)'.",
        show_default=False,
    ),
]
Devices = Annotated[
    int | None,
    typer.Option(
        "--devices",
        min=1,
        help="How many devices the plan has to use. [default: as many as it says]",
        show_default=False,
    ),
]
ClusterName = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="CLUSTER",
        help="The machine: a YAML file, or the name of one that ships.",
        show_default=False,
    ),
]
Dtype = Annotated[
    str | None,
    typer.Option(
        "--dtype",
        metavar="DTYPE",
        help=f"{CAST_WORDS}: cast the model and the batches to it.",
        show_default=False,
    ),
]
TimeLimit = Annotated[
    float | None,
    typer.Option(
        "--time-limit",
        metavar="SECONDS",
        help="How long the solver may search, for a plan with order: auto or a free placement. "
        "[default: as the plan says, else 30]",
        show_default=False,
    ),
]
ProfileFile = Annotated[
    Path | None,
    typer.Option(
        "--profile",
        metavar="FILE",
        help="Measured times of operators and links, as `superscaler profile` writes them; "
        "goes with --cluster build/measured.yaml, which it writes, too.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


class Target(StrEnum):
    """What a command may be given in place of a workload, and why it leaves nothing to choose."""

    PROGRAM = "a program's folder, which is compiled already"
    PLAN = "a plan, which is printed as it is"
    SIMULATION = "a simulation, which is of one program on one cluster"


def refuse_options(what: str, target: Target, options: Mapping[str, object]) -> None:
    """Raises PlanError for options, by name, that were given but mean nothing for this target.

    `what` is the command and its argument.

    >>> refuse_options("show x", Target.PLAN, {"--plan": "y", "--set": None})
    Traceback (most recent call last):
    superscaler.errors.PlanError: show x: --plan means nothing for a plan, which is printed ...
    """
    given = [name for name, value in options.items() if value not in (None, [])]
    if given:
        verb, them = ("means", "it") if len(given) == 1 else ("mean", "them")
        raise PlanError(
            f"{what}: {' and '.join(given)} {verb} nothing for {target}; leave {them} out, or name "
            "a workload, FILE.py:callable"
        )


def read_settings(pairs: list[str] | None) -> dict[str, str]:
    """`key=value` texts as a dict. Raises WorkloadError for one without `=`."""
    settings = {}
    for pair in pairs or ():
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise WorkloadError(f"--set {pair}: write --set key=value")
        settings[key.strip()] = value
    return settings


def read_dtype(name: str | None) -> torch.dtype | None:
    """The torch dtype of this name. Raises WorkloadError for one that a model cannot be cast to."""
    import torch

    if name is None:
        return None
    known = cast_dtype(name)
    if known is None:
        raise WorkloadError(f"--dtype {name}: expected {CAST_WORDS}")
    dtype: torch.dtype = getattr(torch, known)
    return dtype


def load(name: str, pairs: list[str] | None, dtype: str | None = None) -> Workload:
    """The workload that the user named, cast where asked for."""
    workload = ss.load_workload(name, read_settings(pairs))
    wanted = read_dtype(dtype)
    if wanted is None:
        return workload
    from superscaler.workload import cast

    return cast(workload, wanted)


def trace_workload(workload: Workload) -> Graph:
    """The graph of the workload's step."""
    return ss.trace(
        workload.step,
        workload.model,
        workload.batch,
        workload.optimizer,
        clip_grad_norm=workload.clip_grad_norm,
    )


def read_plan(text: str, devices: int | None, time_limit: float | None = None) -> Plan:
    """The plan that the user named, with this many seconds for the solver.

    Raises PlanError unless it uses `devices` devices and leaves something to the solver.
    """
    plan: Plan = ss.policies.parse_plan(text)
    if devices is not None and plan.num_devices != devices:
        raise PlanError(
            f"plan {text!r} uses {plan.num_devices} devices, --devices says {devices}; change "
            f"the plan, or give --devices {plan.num_devices}"
        )
    return plan if time_limit is None else _with_time_limit(plan, text, time_limit)


def _with_time_limit(plan: Plan, text: str, seconds: float) -> Plan:
    if not 0 < seconds < inf:
        raise PlanError(f"--time-limit: expected seconds above 0, found {seconds:g}")
    if plan.order != "auto" and not plan.schedule.placement:
        raise PlanError(
            f"--time-limit: plan {text!r} leaves neither order nor placement to the solver; leave "
            "it out, or give the plan order='auto'"
        )
    return replace(plan, schedule=replace(plan.schedule, time_limit_s=seconds))


def read_cluster(name: str | None) -> Cluster | None:
    """The cluster that the user named, None for the default."""
    return None if name is None else ss.Cluster.load(name)


def manifest_header(name: str, pairs: list[str] | None, dtype: str | None) -> dict[str, Any]:
    """What a program has to know to be trained later: its workload, settings and dtype."""
    file, _, function = name.rpartition(":")
    header: dict[str, Any] = {
        "workload": f"{Path(file).resolve()}:{function}",
        "settings": read_settings(pairs),
    }
    return header | ({"dtype": dtype} if dtype else {})

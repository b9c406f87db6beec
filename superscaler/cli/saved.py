"""Saved programs: compiled again from what their folder says, for commands that need the graph."""

from __future__ import annotations

from pathlib import Path

import superscaler as ss
from superscaler.cli.options import load, read_plan, trace_workload
from superscaler.cli.output import Say
from superscaler.compiler import CompiledProgram
from superscaler.errors import PlanError
from superscaler.runtime import read_manifest


def compile_saved(folder: Path, cluster: ss.Cluster | None, say: Say) -> CompiledProgram:
    """The program of a folder, from its workload, settings, dtype, plan and cluster.

    `cluster` takes the place of the one it was compiled for. Raises PlanError when the folder does
    not say what it was made from.
    """
    manifest = read_manifest(folder)
    plan = folder / "plan.yaml"
    missing = "workload" if "workload" not in manifest else "plan" if not plan.exists() else ""
    if missing:
        raise PlanError(
            f"{folder}: the program does not say its {missing}; name the workload instead, "
            "FILE.py:callable with --plan"
        )
    if cluster is None and "cluster" in manifest:
        cluster = ss.Cluster.from_dict(manifest["cluster"], f"{folder}/manifest.json")
    settings = [f"{key}={value}" for key, value in manifest.get("settings", {}).items()]
    say(f"loading {manifest['workload']}")
    workload = load(str(manifest["workload"]), settings, manifest.get("dtype"))
    say("tracing the step")
    graph = trace_workload(workload)
    say("compiling")
    return ss.compile(graph, read_plan(str(plan), None), cluster)

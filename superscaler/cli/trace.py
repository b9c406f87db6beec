"""`superscaler trace`: the captured step, as a summary, as text, or as JSON."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from superscaler.cli.options import AsJson, Dtype, Settings, WorkloadName, load, trace_workload
from superscaler.cli.output import (
    print_json,
    print_table,
    print_text,
    progress,
)
from superscaler.dtypes import dtype_name
from superscaler.units import bytes_text, count_text

if TYPE_CHECKING:
    from superscaler.graph.graph import Graph
    from superscaler.graph.tensor import PTensor


def trace(
    workload: WorkloadName,
    settings: Settings = None,
    dtype: Dtype = None,
    text: Annotated[bool, typer.Option("--text", help="Print every operator.")] = False,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="DIR", help="Write the text to DIR/graph.txt."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Capture the training step: forward, backward and update, on the global batch.

    Examples:

        superscaler trace examples/gpt.py:workload

        superscaler trace examples/gpt.py:workload --set layers=2 --text

        superscaler trace examples/gpt.py:workload --set layers=96 --set hidden=12288
        --set heads=96 --set meta=true --json
    """
    with progress(f"loading {workload}") as say:
        made = load(workload, settings, dtype)
        say("tracing the step")
        start = time.perf_counter()
        graph = trace_workload(made)
        seconds = time.perf_counter() - start
    if out is not None:
        _write(graph, out)
    if as_json:
        print_json(summary(graph) | {"seconds": round(seconds, 3)})
    elif text:
        print_text(_text(graph))
    else:
        _print_summary(graph, seconds)
        if out is not None:
            print_text(f"\nwritten to {out / 'graph.txt'}")


def _text(graph: Graph) -> str:
    from superscaler.graph.text import to_text

    return to_text(graph)


def _write(graph: Graph, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "graph.txt").write_text(_text(graph))


def summary(graph: Graph) -> dict[str, Any]:
    """What a graph holds, as plain data."""
    from superscaler.graph.tensor import TensorKind

    params = graph.of_kind(TensorKind.PARAM)
    phases = Counter(op.phase.value for op in graph.operators)
    targets = Counter(op.target for op in graph.operators)
    return {
        "parameters": {
            "tensors": len(params),
            "elements": sum(p.num_elements for p in params),
            "bytes": sum(p.num_bytes for p in params),
            "trained": len(graph.updates),
        },
        "buffers": len(graph.of_kind(TensorKind.BUFFER)),
        "states": _size(graph.of_kind(TensorKind.STATE)),
        "batch": [_described(graph.tensors[t]) for t in graph.batch if t >= 0],
        "operators": {"total": len(graph.operators), **phases},
        "targets": dict(sorted(targets.items(), key=lambda item: (-item[1], item[0]))),
        "metrics": [name for name, _ in graph.metrics],
        "optimizer": graph.optimizer,
        "aliases": graph.aliases,
    }


def _size(tensors: tuple[PTensor, ...]) -> dict[str, int]:
    return {"tensors": len(tensors), "bytes": sum(t.num_bytes for t in tensors)}


def _described(tensor: PTensor) -> dict[str, Any]:
    dtype = dtype_name(tensor.dtype)
    return {"name": tensor.name, "shape": list(tensor.shape), "dtype": dtype}


def _print_summary(graph: Graph, seconds: float) -> None:
    from rich.table import Table

    data = summary(graph)
    params, states, operators = data["parameters"], data["states"], data["operators"]
    by_phase = ", ".join(f"{n} {phase}" for phase, n in operators.items() if phase != "total")
    most = ", ".join(f"{name} {n}" for name, n in list(data["targets"].items())[:6])
    batch = ", ".join(f"{b['name']} {b['dtype']}{b['shape']}" for b in data["batch"])
    table = Table(box=None, show_header=False, pad_edge=False)
    count, size = count_text(params["elements"]), bytes_text(params["bytes"])
    tensors = f"in {params['tensors']} tensors, {params['trained']} trained"
    table.add_row("parameters", f"{count} ({size}) {tensors}")
    table.add_row("optimizer", f"{data['optimizer']}, {bytes_text(states['bytes'])} of state")
    table.add_row("buffers", str(data["buffers"]))
    table.add_row("batch", batch)
    table.add_row("results", ", ".join(["loss", *data["metrics"]]))
    table.add_row("operators", f"{operators['total']}: {by_phase}")
    table.add_row("", most + (", ..." if len(data["targets"]) > 6 else ""))
    table.add_row("traced in", f"{seconds:.1f} s")
    print_table(table)

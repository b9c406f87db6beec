"""Stages placed by the solver, against known orders on stages of equal cost, on a real model.

    python tools/bench_stages.py examples/llama_hf.py:workload --set layers=32 --set hidden=4096 \\
        --set ffn=14336 --set heads=32 --set vocab=128256 --set seq=2048 --set batch=32 \\
        --set meta=true --dtype bfloat16 --cluster h100x8 --devices 8 --microbatches 32

Every plan is compiled and simulated on the same cluster. No plan runs a forward twice.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
import yaml

import superscaler as ss
from superscaler.errors import SuperScalerError
from superscaler.simulate.simulation import Simulation
from superscaler.trace.axes import infer_axes
from superscaler.workload import cast

KNOWN = ("1f1b", "zb_h1", "zb_v")
INTERLEAVED = "order='interleaved', stages_per_device=2"
HEAD = "| plan | step s | 1F1B / it | idle | fullest device GiB | seconds to compile |"


def main() -> None:
    """Prints the table, and writes it to `--out`."""
    given = _arguments()
    settings = {k: yaml.safe_load(v) for k, _, v in (s.partition("=") for s in given.set)}
    workload = cast(ss.load_workload(given.workload, settings), getattr(torch, given.dtype))
    graph = ss.trace(workload.step, workload.model, workload.batch, workload.optimizer)
    axes, cluster = infer_axes(graph), ss.Cluster.load(given.cluster)
    lines = [HEAD, "|" + " --- |" * HEAD.count(" |")]
    print(*lines, sep="\n")
    first = 0.0
    for more in (
        *(f"order={order!r}" for order in KNOWN),
        INTERLEAVED,
        "order='auto'",
        "order='auto', placement='free'",
    ):
        text = f"pipeline(pp={given.devices}, microbatches={given.microbatches}, {more})"
        begun = time.perf_counter()
        try:
            program = ss.compile(graph, text, cluster, axes=axes)
        except SuperScalerError as error:
            lines.append(f"| {more} | refused: {str(error).splitlines()[0]} | | | | |")
        else:
            took = time.perf_counter() - begun
            found = program.simulate()
            first = first or found.step_us
            lines.append(
                f"| {more} | {found.step_us / 1e6:.3f} | {first / found.step_us:.2f} | "
                f"{found.bubble:.1%} | {found.peak_bytes / 2**30:.1f}{_over(found, cluster)} | "
                f"{took:.0f} |"
            )
        print(lines[-1], flush=True)
    if given.out:
        head = f"{given.workload} {' '.join(given.set)}, {given.dtype}, {given.cluster}\n\n"
        given.out.write_text(head + "\n".join(lines) + "\n")


def _over(found: Simulation, cluster: ss.Cluster) -> str:
    return "" if found.peak_bytes <= cluster.device(0).memory_bytes else " (out of memory)"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workload")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--cluster", default="h100x8")
    parser.add_argument("--devices", type=int, default=8)
    parser.add_argument("--microbatches", type=int, default=32)
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()

"""Trace and compile times of examples/gpt.py on the meta device, by layers and devices.

    python tools/bench_compile.py [--quick] [--out build/bench_compile.txt]

Each case runs in a process of its own. CPU is what the process used (two numbers: trace, and
compile with writing), wall is its clock, memory its highest resident set. Load of other processes
lengthens wall, hardly CPU.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
WORKLOAD = f"{ROOT / 'examples' / 'gpt.py'}:workload"

# GPT-3's width. The batch is that of the largest plan: 8 replicas x 64 samples.
LARGE = {"hidden": 12288, "heads": 96, "seq": 2048, "vocab": 51200, "batch": 512, "meta": True}
LAYERS = (12, 24, 48, 96)
PLANS = {
    4: "hybrid(tp=2, pp=2, microbatches=4)",
    32: "hybrid(tp=8, pp=4, microbatches=8)",
    256: "hybrid(tp=8, pp=8, dp=4, microbatches=16)",
    1024: "hybrid(tp=8, pp=16, dp=8, microbatches=32)",
}

# Ring attention: layers x blocks x microbatches tasks on each device.
LONG = {"hidden": 4096, "heads": 32, "seq": 12288, "vocab": 51200, "batch": 128, "meta": True}
RING = "context_parallel(cp=8, zero=2, ring=True, microbatches={})"
RING_MICROBATCHES = (8, 32, 128)

# The peer's published setting, see `PEER`.
SMALL = {"hidden": 1024, "heads": 16, "seq": 128, "vocab": 51200, "batch": 16, "meta": True}
SMALL_PLANS = {
    2: ("data_parallel(dp=2)", "megatron(tp=2)", "pipeline(pp=2, microbatches=4)"),
    4: ("megatron(tp=4)", "hybrid(tp=2, pp=2, microbatches=4)"),
}
PEER = (
    "nnScaler 0.8 on the same 24 layers x 1,024, an upper bound (this kind of machine, torch 2.6;\n"
    "NOT measured in this run): dp 2 13.0 s, tp 2 14.1 s, pp 2 13.5 s, tp 4 18.1 s; 2 GiB of\n"
    "memory, and 1.16 GB of weights written."
)


@dataclass(frozen=True)
class Case:
    """One compilation."""

    layers: int
    devices: int
    plan: str
    sizes: dict[str, Any]


def main() -> None:
    """Measure every case, print a line for each, write them all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few small cases only")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "bench_compile.txt")
    parser.add_argument("--case", help=argparse.SUPPRESS)  # what the processes are started with
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measure(Case(**json.loads(options.case)))))
        return
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with options.out.open("w") as file:

        def say(text: str) -> None:
            print(text, flush=True)
            print(text, file=file, flush=True)

        say(f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}")
        say(f"load of the machine before: {os.getloadavg()[0]:.1f}\n")
        say("\n".join(HEADING))
        for case in cases(options.quick):
            say(line(case, in_process(case)))
        say(f"\n{PEER}")


def cases(quick: bool) -> list[Case]:
    """The comparison with the peer, then layers x devices, then many tasks a microbatch."""
    small = [Case(24, n, plan, SMALL) for n, plans in SMALL_PLANS.items() for plan in plans]
    large = [Case(layers, n, plan, LARGE) for layers in LAYERS for n, plan in PLANS.items()]
    ring = [Case(8, 8, RING.format(m), LONG) for m in RING_MICROBATCHES]
    return [small[1], large[0], large[1]] if quick else [*small, *large, *ring]


HEADING = (
    "layers  hidden  devices  trace CPU    wall  compile CPU    wall  total CPU   memory  operators"
    "  programs    written  plan",
    "                            s          s              s       s          s      MiB"
    "                         KiB",
)


def line(case: Case, r: dict[str, float]) -> str:
    """A row of the table."""
    return (
        f"{case.layers:>6}  {case.sizes['hidden']:>6}  {case.devices:>7}  {r['trace_cpu']:>9.1f}"
        f"  {r['trace_wall']:>6.1f}  {r['compile_cpu']:>11.1f}  {r['compile_wall']:>6.1f}"
        f"  {r['trace_cpu'] + r['compile_cpu']:>9.1f}  {r['memory_mib']:>7.0f}  {r['operators']:>9}"
        f"  {r['programs']:>8}  {r['written_kib']:>9,.0f}  {case.plan}"
    )


def in_process(case: Case) -> dict[str, float]:
    """`measure` in a fresh process, so that its memory is the case's own."""
    command = [sys.executable, __file__, "--case", json.dumps(vars(case))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{case}: {done.stderr}")
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def measure(case: Case) -> dict[str, float]:
    """Trace, compile and save one case; loading the workload and imports are not counted."""
    from superscaler import compile, load_workload, trace

    workload = load_workload(WORKLOAD, {"layers": case.layers, **case.sizes})
    clock = Clock()
    graph = trace(workload.step, workload.model, workload.batch, workload.optimizer)
    trace_cpu, trace_wall = clock.lap()
    program = compile(graph, case.plan)
    with tempfile.TemporaryDirectory() as folder:
        program.save(folder)
        compile_cpu, compile_wall = clock.lap()
        written = sum(f.stat().st_size for f in Path(folder).iterdir())
    if program.world_size != case.devices:
        raise ValueError(f"{case.plan} has {program.world_size} devices, not {case.devices}")
    return {
        "trace_cpu": trace_cpu,
        "trace_wall": trace_wall,
        "compile_cpu": compile_cpu,
        "compile_wall": compile_wall,
        "memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "operators": len(graph.operators),
        "programs": program.num_programs,
        "written_kib": written / 1024,
    }


class Clock:
    """CPU and wall seconds since the last lap."""

    def __init__(self) -> None:
        self._last = (time.process_time(), time.perf_counter())

    def lap(self) -> tuple[float, float]:
        now = (time.process_time(), time.perf_counter())
        cpu, wall = (b - a for a, b in zip(self._last, now, strict=True))
        self._last = now
        return cpu, wall


if __name__ == "__main__":
    main()

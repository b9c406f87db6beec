"""Predicted against measured: peak bytes of every rank and step time, six plans over three models.

    OMP_NUM_THREADS=1 python tools/bench_simulate.py --out build/bench_simulate.txt

Bytes are counted by the runtime in real Gloo processes. Times are predicted from a profile of the
links between processes and of every rank's kernels, run alone on their local shapes; kernels and
real steps are measured in turn, so that what else the machine does slows down both alike.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

import superscaler as ss
from superscaler.cluster import Cluster, Device
from superscaler.cluster.measure import measure_device, measured_cluster
from superscaler.cluster.profile import LinkTime, Profile
from superscaler.compiler import CompiledProgram
from superscaler.measure.links import measure_links
from superscaler.measure.steps import CORES, Job, RealSteps, run_real_steps
from superscaler.simulate.simulation import Simulation
from superscaler.workload import Workload, load_workload

ROOT = Path(__file__).parent.parent
MODELS = {
    "GPT": (
        f"{ROOT}/examples/gpt.py:workload",
        {"layers": "4", "hidden": "256", "heads": "4", "seq": "128", "batch": "16"},
    ),
    "LLaMA": (f"{ROOT}/tests/models/llama.py:llama", {"hidden": "256", "batch": "8", "seq": "128"}),
    "Swin": (f"{ROOT}/tests/models/swin.py:swin", {"hidden": "64", "batch": "8", "size": "64"}),
}
PLANS = {
    "dp2": "data_parallel(dp=2)",
    "zero3": "zero(dp=2, stage=3)",
    "tp2": "megatron(tp=2)",
    "pp2 1f1b": "pipeline(pp=2, microbatches=4)",
    "pp2 zb": "pipeline(pp=2, microbatches=4, order='zb_h1')",
    "tp2 x pp2": "hybrid(tp=2, pp=2, microbatches=4)",
}


@dataclass(frozen=True)
class Case:
    """A model under a plan."""

    model: str
    plan: str
    program: CompiledProgram


def main() -> None:
    arguments = _arguments()
    torch.set_num_threads(1)
    device, links = measure_device(), measure_links((2, 4))
    cluster = measured_cluster(device, links, 4)
    cases = _cases(arguments, cluster)
    lines = [f"torch {torch.__version__}, Gloo processes of one thread, {CORES} cores", "", _HEADER]
    print("\n".join(lines), flush=True)
    rows = []
    for case, found, profile in _measure(cases, device, links, arguments.rounds):
        rows.append((case, case.program.simulate(cluster, profile), found))
        lines.append(_row(*rows[-1]))
        print(lines[-1], flush=True)
    lines += ["", *_summary(rows)]
    print("\n".join(["", *_summary(rows)]))
    path = Path(arguments.out)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="of kernels, then steps, of each")
    parser.add_argument("--models", nargs="*", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--plans", nargs="*", default=list(PLANS), choices=list(PLANS))
    parser.add_argument("--out", default="build/bench_simulate.txt")
    return parser.parse_args()


def _workload(model: str) -> Workload:
    name, settings = MODELS[model]
    return load_workload(name, settings)


def _cases(arguments: argparse.Namespace, cluster: Cluster) -> list[Case]:
    cases = []
    for model in arguments.models:
        work = _workload(model)
        graph = ss.trace(work.step, work.model, work.batch, work.optimizer)
        cases += [
            Case(model, plan, ss.compile(graph, PLANS[plan], cluster)) for plan in arguments.plans
        ]
    return cases


def _measure(
    cases: list[Case], device: Device, links: tuple[LinkTime, ...], rounds: int
) -> Iterator[tuple[Case, RealSteps, Profile]]:
    """Every case on real processes, with a profile of its own kernels."""
    for size in sorted({case.program.world_size for case in cases}):
        chosen = [case for case in cases if case.program.world_size == size]
        jobs = []
        for case in chosen:
            name, settings = MODELS[case.model]
            measured = tuple(c.ranks[0] for c in case.program.simulate().classes)
            jobs.append(Job(name, case.program.files, measured, settings))
        for case, found in zip(chosen, run_real_steps(jobs, size, rounds)):
            yield case, found, Profile(device.kind, found.operators, links)


# the table

_HEADER = (
    f"{'model':6} {'plan':10} {'peak MiB: predicted':>20} {'measured':>9} {'worst error':>12}   "
    f"{'step ms: predicted':>18} {'measured':>9} {'(least)':>9} {'error':>7}"
)


def _memory_error(predicted: Simulation, found: RealSteps) -> float:
    """The relative error of the rank where it is largest."""
    errors = [
        c.peak_bytes / found.peak_bytes[rank] - 1 for c in predicted.classes for rank in c.ranks
    ]
    return max(errors, key=abs)


def _row(case: Case, predicted: Simulation, found: RealSteps) -> str:
    time_error = predicted.step_us / found.step_us - 1
    return (
        f"{case.model:6} {case.plan:10} {predicted.peak_bytes / 2**20:20.2f} "
        f"{max(found.peak_bytes) / 2**20:9.2f} {_memory_error(predicted, found):+12.3%}   "
        f"{predicted.step_us / 1e3:18.1f} {found.step_us / 1e3:9.1f} "
        f"{min(found.steps_us) / 1e3:9.1f} {time_error:+7.1%}"
    )


def _summary(rows: list[tuple[Case, Simulation, RealSteps]]) -> list[str]:
    memory = [abs(_memory_error(p, m)) for _, p, m in rows]
    times = [abs(p.step_us / m.step_us - 1) for _, p, m in rows]
    out = [
        f"peak bytes: worst error {max(memory):.3%}, median {statistics.median(memory):.3%}",
        f"step time: worst error {max(times):.1%}, median {statistics.median(times):.1%}",
    ]
    for model in dict.fromkeys(case.model for case, _, _ in rows):
        own = [(p.step_us, m.step_us, c.plan) for c, p, m in rows if c.model == model]
        orders = [[plan for *_, plan in sorted(own, key=lambda r, k=k: r[k])] for k in (0, 1)]
        pairs = [(a, b) for i, a in enumerate(own) for b in own[i + 1 :]]
        kept = sum((a[0] < b[0]) == (a[1] < b[1]) for a, b in pairs)
        out.append(f"{model}: fastest first, predicted {', '.join(orders[0])}")
        out.append(f"{'':{len(model)}}                  measured {', '.join(orders[1])}")
        out.append(f"{'':{len(model)}}  {kept} of {len(pairs)} pairs in order")
    return out


if __name__ == "__main__":
    main()

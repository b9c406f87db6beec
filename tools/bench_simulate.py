"""Predicted against measured: peak bytes of every rank and step time, six plans over three models.

    OMP_NUM_THREADS=1 python tools/bench_simulate.py --out build/bench_simulate.txt

Bytes are counted by the runtime in real Gloo processes. Times are predicted from a profile of the
links between processes and of every rank's kernels, run alone on their local shapes. Each round
measures kernels and real steps of all plans, so that what else the machine does slows down all
alike. Two plans are told apart where one is the faster in every round.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
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


Row = tuple[Case, Simulation, RealSteps]  # of the table


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


def _summary(rows: list[Row]) -> list[str]:
    memory = [abs(_memory_error(p, m)) for _, p, m in rows]
    times = [abs(p.step_us / m.step_us - 1) for _, p, m in rows]
    out = [
        f"peak bytes: worst error {max(memory):.3%}, median {statistics.median(memory):.3%}",
        f"step time: worst error {max(times):.1%}, median {statistics.median(times):.1%}",
    ]
    for model in dict.fromkeys(case.model for case, _, _ in rows):
        own = [row for row in rows if row[0].model == model]
        predicted = sorted(own, key=lambda row: row[1].step_us)
        measured = sorted(own, key=lambda row: row[2].step_us)
        out.append(f"{model}: fastest first, predicted {_plans(predicted)}")
        out.append(f"{'':{len(model)}}                  measured {_plans(measured)}")
        out.append(f"{'':{len(model)}}  {_kept(own)}")
    return out


def _plans(rows: list[Row]) -> str:
    return ", ".join(case.plan for case, _, _ in rows)


def _kept(rows: list[Row]) -> str:
    """How many pairs of plans are predicted in the order that was measured."""
    pairs = list(combinations(rows, 2))
    apart = [(a, b) for a, b in pairs if _are_apart(a[2], b[2])]
    wrong = [(a, b) for a, b in pairs if not _is_kept(a, b)]
    names = ", ".join(
        f"{a[0].plan} and {b[0].plan} (medians {abs(a[2].step_us / b[2].step_us - 1):.1%} apart)"
        for a, b in wrong
    )
    said = f"{len(pairs) - len(wrong)} of {len(pairs)} pairs in order"
    said += f", {sum(_is_kept(*pair) for pair in apart)} of the {len(apart)} that are told apart"
    return said + (f"; not {names}" if names else "")


def _is_kept(a: Row, b: Row) -> bool:
    return (a[1].step_us < b[1].step_us) == (a[2].step_us < b[2].step_us)


def _are_apart(a: RealSteps, b: RealSteps) -> bool:
    """Whether one is the faster in every round."""
    return len({x < y for x, y in zip(a.rounds_us, b.rounds_us)}) == 1


if __name__ == "__main__":
    main()

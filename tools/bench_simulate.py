"""Predicted against measured: peak bytes of every rank and step time, six plans over three models.

    OMP_NUM_THREADS=1 python tools/bench_simulate.py --out build/bench_simulate.txt

Bytes are counted by the runtime in real Gloo processes. Times are predicted from a profile that is
measured first: kernels of each rank on its local shapes, alone, and links between processes.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

sys.path.insert(0, str(Path(__file__).parent.parent))

import superscaler as ss
from superscaler.cluster import Cluster
from superscaler.cluster.measure import measure_device, measure_links, measured_cluster
from superscaler.cluster.profile import OperatorTime, Profile
from superscaler.compiler import CompiledProgram
from superscaler.runtime import RankExecutor, load_rank
from superscaler.runtime.memory import MemoryMeter
from superscaler.runtime.processes import ProcessCommunicator
from superscaler.simulate.measure_rank import measure_rank
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


@dataclass(frozen=True)
class Measured:
    """A case on real processes: median step and shortest step in us, peak bytes by rank."""

    step_us: float
    shortest_us: float
    peak_bytes: tuple[int, ...]


def main() -> None:
    arguments = _arguments()
    torch.set_num_threads(1)
    cases = _cases(arguments)
    cluster, profile = _profile(cases, arguments)
    lines = [f"torch {torch.__version__}, Gloo processes of one thread, {arguments.repeat} steps"]
    lines += ["", _HEADER]
    print("\n".join(lines), flush=True)
    measured = _measure(cases, arguments.repeat)
    rows = []
    for case, found in zip(cases, measured, strict=True):
        predicted = case.program.simulate(cluster, profile)
        rows.append((case, predicted, found))
        lines.append(_row(case, predicted, found))
        print(lines[-1], flush=True)
    lines += ["", *_summary(rows)]
    print("\n".join(["", *_summary(rows)]))
    path = Path(arguments.out)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=15, help="timed steps of each")
    parser.add_argument("--models", nargs="*", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--plans", nargs="*", default=list(PLANS), choices=list(PLANS))
    parser.add_argument("--profile", default="", help="a profile made before; else it is measured")
    parser.add_argument("--out", default="build/bench_simulate.txt")
    return parser.parse_args()


def _workload(model: str) -> Workload:
    name, settings = MODELS[model]
    return load_workload(name, settings)


def _cases(arguments: argparse.Namespace) -> list[Case]:
    cases = []
    for model in arguments.models:
        work = _workload(model)
        graph = ss.trace(work.step, work.model, work.batch, work.optimizer)
        cases += [
            Case(model, plan, ss.compile(graph, PLANS[plan], Cluster.load("cpu4")))
            for plan in arguments.plans
        ]
    return cases


def _state(work: Workload) -> dict[str, torch.Tensor]:
    return {**dict(work.model.named_parameters()), **dict(work.model.named_buffers())}


# the profile


def _profile(cases: list[Case], arguments: argparse.Namespace) -> tuple[Cluster, Profile]:
    """This machine as a cluster; kernels and links measured on it, two processes at a time."""
    device = measure_device()
    links = measure_links((2, 4))
    cluster = measured_cluster(device, links, 4)
    if arguments.profile:
        return cluster, Profile.load(arguments.profile)
    jobs = []
    for case in cases:
        simulated = case.program.simulate(cluster)
        jobs.append((case.model, case.program.files, [c.ranks[0] for c in simulated.classes]))
    with tempfile.TemporaryDirectory(prefix="bench-simulate-") as folder:
        mp.spawn(_measure_kernels, (folder, jobs), nprocs=2)
        found: list[OperatorTime] = []
        for number in range(2):
            found += torch.load(f"{folder}/{number}.kernels", weights_only=False)
    times: dict[Any, list[float]] = {}
    for entry in found:
        times.setdefault(entry.work, []).append(entry.us)
    operators = tuple(OperatorTime(work, statistics.median(us)) for work, us in times.items())
    profile = Profile(device.kind, operators, links)
    path = Path(arguments.out).with_suffix(".profile.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    profile.save(path)
    return cluster, profile


def _measure_kernels(number: int, folder: str, jobs: list[Any]) -> None:
    """Kernels of every program, on one of its kinds of ranks."""
    torch.set_num_threads(1)
    found: list[OperatorTime] = []
    for model, files, ranks in jobs:
        work = _workload(model)
        rank = ranks[number % len(ranks)]
        found += measure_rank(files, rank, _state(work), work.batch, work.optimizer)
    torch.save(found, f"{folder}/{number}.kernels")


# the real thing


def _measure(cases: list[Case], repeat: int) -> list[Measured]:
    found: dict[int, Measured] = {}
    for size in sorted({case.program.world_size for case in cases}):
        chosen = [i for i, case in enumerate(cases) if case.program.world_size == size]
        jobs = [(cases[i].model, cases[i].program.files) for i in chosen]
        with tempfile.TemporaryDirectory(prefix="bench-simulate-") as folder:
            mp.spawn(_run_rank, (size, folder, jobs, repeat), nprocs=size)
            ranks = [torch.load(f"{folder}/{rank}.out") for rank in range(size)]
        for place, i in enumerate(chosen):
            steps = [max(us) for us in zip(*(rank[place][0] for rank in ranks), strict=True)]
            peaks = tuple(rank[place][1] for rank in ranks)
            found[i] = Measured(statistics.median(steps), min(steps), peaks)
    return [found[i] for i in range(len(cases))]


def _run_rank(rank: int, size: int, folder: str, jobs: list[Any], repeat: int) -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(f"{folder}/store", size)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=size)
    results = []
    for model, files in jobs:
        work = _workload(model)
        program = load_rank(files, rank)
        communicator = ProcessCommunicator(program.manifest.get("groups", ()))
        executor = RankExecutor(program, communicator, optimizer=work.optimizer)
        executor.load_weights(_state(work))
        times = [_timed(executor, work.batch) for _ in range(2 + repeat)][2:]
        meter = MemoryMeter(executor)
        meter.step(work.batch)
        results.append((times, meter.peak_bytes))
        dist.barrier()
    torch.save(results, f"{folder}/{rank}.out")
    dist.barrier()
    dist.destroy_process_group()


def _timed(executor: RankExecutor, batch: Any) -> float:
    dist.barrier()
    begun = time.perf_counter()
    executor.step(batch)
    return (time.perf_counter() - begun) * 1e6


# the table

_HEADER = (
    f"{'model':6} {'plan':10} {'peak MiB: predicted':>20} {'measured':>9} {'worst error':>12}   "
    f"{'step ms: predicted':>18} {'measured':>9} {'(least)':>9} {'error':>7}"
)


def _memory_error(predicted: Simulation, found: Measured) -> float:
    """The relative error of the rank where it is largest."""
    errors = [
        c.peak_bytes / found.peak_bytes[rank] - 1 for c in predicted.classes for rank in c.ranks
    ]
    return max(errors, key=abs)


def _row(case: Case, predicted: Simulation, found: Measured) -> str:
    time_error = predicted.step_us / found.step_us - 1
    return (
        f"{case.model:6} {case.plan:10} {predicted.peak_bytes / 2**20:20.2f} "
        f"{max(found.peak_bytes) / 2**20:9.2f} {_memory_error(predicted, found):+12.3%}   "
        f"{predicted.step_us / 1e3:18.1f} {found.step_us / 1e3:9.1f} "
        f"{found.shortest_us / 1e3:9.1f} {time_error:+7.1%}"
    )


def _summary(rows: list[tuple[Case, Simulation, Measured]]) -> list[str]:
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

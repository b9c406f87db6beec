"""Step time on two Gloo processes: our programs against PyTorch's own, step by step in turn.

    OMP_NUM_THREADS=1 python tools/bench_step.py --out build/bench_step.txt

Both run in the same two processes, from the same weights, on the same batch; one thread each.
With --torch-compile our operators go through torch.compile, and the peer is ours without it.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

sys.path.insert(0, str(Path(__file__).parent.parent))

import step_peers as peers

import superscaler as ss
from superscaler.runtime import RankExecutor, RankProgram, load_rank
from superscaler.runtime.processes import ProcessCommunicator, destroy_groups
from superscaler.workload import Workload, load_workload

NUM_CHECKED_STEPS = 3  # they also warm up
EXAMPLE = f"{Path(__file__).parent.parent}/examples/gpt.py:workload"


@dataclass(frozen=True)
class Pair:
    """One of our plans, and what PyTorch offers for it."""

    name: str
    plan: str
    peer: Callable[[Workload], peers.Step]


PAIRS = (
    Pair("DistributedDataParallel", "data_parallel(dp=2)", peers.distributed_data_parallel),
    Pair("FSDP2 fully_shard", "zero(dp=2, stage=3)", peers.fsdp2),
    Pair("DTensor parallelize_module", "megatron(tp=2)", peers.dtensor),
    Pair(
        "pipelining Schedule1F1B", "pipeline(pp=2, microbatches=4, order='1f1b')", peers.pipelining
    ),
)


@dataclass(frozen=True)
class Timing:
    """Seconds of every repetition, ours and the peer's: wall and CPU time of the slower rank."""

    ours: list[float]
    theirs: list[float]
    ours_cpu: list[float]
    theirs_cpu: list[float]


def main() -> None:
    arguments = _arguments()
    sizes = dict(entry.split("=", 1) for entry in arguments.set)
    torch.set_num_threads(1)
    work = load_workload(EXAMPLE, sizes)
    pairs = [pair for pair in PAIRS if arguments.only in pair.plan]
    single = _time_eager(work, arguments.repeat)
    graph = ss.trace(work.step, work.model, work.batch, work.optimizer)
    lines = [f"sizes: {', '.join(arguments.set)}; torch {torch.__version__}, 2 Gloo processes", ""]
    lines += [f"one process, eager: median {_spread(single)} s", "", _HEADER]
    print("\n".join(lines), flush=True)
    for pair in pairs:
        files = ss.compile(graph, pair.plan).files
        name = "ours, without" if arguments.torch_compile else pair.name
        lines.append(_row(pair.plan, name, _measure(pair, files, sizes, arguments)))
        print(lines[-1], flush=True)
    path = Path(arguments.out)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--set", nargs="*", metavar="KEY=VALUE", help="the example's settings")
    parser.add_argument("--repeat", type=int, default=20, help="steps of each, in turn")
    parser.add_argument("--only", default="", help="only plans with this in their name")
    parser.add_argument("--torch-compile", action="store_true")
    parser.add_argument("--profile", default="", help="a folder for profiles of rank 0")
    parser.add_argument("--out", default="build/bench_step.txt")
    parser.set_defaults(set=["layers=4", "hidden=256", "heads=4", "seq=128", "batch=16"])
    return parser.parse_args()


def _measure(pair: Pair, files: dict[str, str], sizes: Any, arguments: Any) -> Timing:
    with tempfile.TemporaryDirectory(prefix="bench-step-") as folder:
        mp.spawn(_run_rank, (folder, pair.plan, files, sizes, arguments), nprocs=2)
        ranks = [torch.load(f"{folder}/{rank}.times") for rank in range(2)]
    slowest = [
        [max(step) for step in zip(*columns, strict=True)] for columns in zip(*ranks, strict=True)
    ]
    return Timing(*slowest)


def _run_rank(
    rank: int, folder: str, plan: str, files: dict[str, str], sizes: Any, arguments: Any
) -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(f"{folder}/store", 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
    pair = next(pair for pair in PAIRS if pair.plan == plan)
    program = load_rank(files, rank, arguments.torch_compile)
    communicator = ProcessCommunicator(program.manifest.get("groups", ()))
    ours = _our_step(program, communicator, load_workload(EXAMPLE, sizes))
    work = load_workload(EXAMPLE, sizes)
    if arguments.torch_compile:
        theirs = _our_step(load_rank(files, rank), communicator, work)
    else:
        theirs = pair.peer(work)
    for number in range(NUM_CHECKED_STEPS):
        _check(number, ours(work.batch), theirs(work.batch))
    times: list[list[float]] = [[], [], [], []]
    for i in range(arguments.repeat):
        for which in (0, 1) if i % 2 == 0 else (1, 0):
            wall, cpu = _time((ours, theirs)[which], work.batch)
            times[which].append(wall)
            times[which + 2].append(cpu)
    torch.save(times, f"{folder}/{rank}.times")
    if arguments.profile:
        for name, step in (("ours", ours), ("theirs", theirs)):
            _profile(step, work.batch, Path(arguments.profile) / f"{plan}.{name}.{rank}.txt")
    communicator.close()
    destroy_groups()


def _our_step(
    program: RankProgram, communicator: ProcessCommunicator, work: Workload
) -> peers.Step:
    executor = RankExecutor(program, communicator, optimizer=work.optimizer)
    executor.load_weights(work.model.state_dict())
    return lambda batch: executor.step(batch)[0]


def _check(number: int, ours: torch.Tensor, theirs: torch.Tensor) -> None:
    """Raise AssertionError unless the losses agree to float32's accuracy."""
    loss = theirs.double() / dist.get_world_size()
    dist.all_reduce(loss)
    tolerance = 1e-6 * 10**number  # AdamW's first steps magnify gradients' rounding errors
    torch.testing.assert_close(ours.double(), loss, rtol=tolerance, atol=0.0)


def _time(step: peers.Step, batch: Any) -> tuple[float, float]:
    dist.barrier()
    wall, cpu = time.perf_counter(), time.process_time()
    step(batch)
    return time.perf_counter() - wall, time.process_time() - cpu


def _time_eager(work: Workload, repeat: int) -> list[float]:
    step = peers.eager(copy.deepcopy(work))
    step(work.batch)
    times = []
    for _ in range(max(3, repeat // 2)):
        start = time.perf_counter()
        step(work.batch)
        times.append(time.perf_counter() - start)
    return times


def _profile(step: peers.Step, batch: Any, path: Path) -> None:
    with torch.profiler.profile() as profile:
        for _ in range(3):
            step(batch)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=60))
    profile.export_chrome_trace(str(path.with_suffix(".json")))


_HEADER = (
    f"{'plan':42} {'ours: s (min to max)':26} {'peer':27} {'s (min to max)':26} "
    f"{'ratio':>7} {'paired':>7} {'cpu':>7}"
)


def _row(plan: str, peer: str, timing: Timing) -> str:
    """The ratio of medians, the median of the pairs' ratios, and that of their CPU times."""
    ratio = statistics.median(timing.ours) / statistics.median(timing.theirs)
    return (
        f"{plan:42} {_spread(timing.ours):26} {peer:27} {_spread(timing.theirs):26} "
        f"{ratio:7.3f} {_paired(timing.ours, timing.theirs):7.3f} "
        f"{_paired(timing.ours_cpu, timing.theirs_cpu):7.3f}"
    )


def _paired(ours: list[float], theirs: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def _spread(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.4f} ({min(seconds):.4f} to {max(seconds):.4f})"


if __name__ == "__main__":
    main()

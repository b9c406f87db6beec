"""Links: how long communication between processes of this machine takes, as a step has it.

The processes communicate as the runtime does, after some work: ones that have nothing else to do
answer sooner. A communication lasts from when the last process has come until the last goes on.
"""

from __future__ import annotations

import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch._C._distributed_c10d import FileStore

from superscaler.cluster.measure import settle
from superscaler.cluster.profile import LinkTime
from superscaler.runtime.processes import ProcessCommunicator, destroy_groups

SIZES = (1 << 10, 1 << 14, 1 << 18, 1 << 20, 1 << 22)  # bytes
REPEATS = 40
WORK_S = 2e-3  # before each: a process that waits for another wakes up later after work
LEAST_BUSY = 0.01  # of a call's time
BACKEND = {"cpu": "gloo", "cuda": "nccl"}
LINK = {"cpu": "gloo", "cuda": "nvlink"}

Key = tuple[str, int]  # kind, bytes


class Span(NamedTuple):
    """A call on one process, in seconds: by the clock that all share, and of processors' time."""

    begun: float
    end: float
    busy: float


def possible(counts: Sequence[int]) -> tuple[int, ...]:
    """Those numbers of processes that can meet here: NCCL needs a GPU for each."""
    if not torch.cuda.is_available():
        return tuple(counts)
    return tuple(n for n in counts if n <= torch.cuda.device_count())


def measure_links(counts: Sequence[int]) -> tuple[LinkTime, ...]:
    """Collectives and messages between processes of this machine, for these numbers of them."""
    return tuple(time for count in counts for time in _measure(count))


def _measure(count: int) -> list[LinkTime]:
    with tempfile.TemporaryDirectory(prefix="superscaler-links-") as folder:
        mp.spawn(_run_rank, (count, folder), nprocs=count)  # type: ignore[attr-defined, no-untyped-call]
        ranks = [torch.load(f"{folder}/{rank}.out", weights_only=False) for rank in range(count)]
    link = LINK[_where()]
    return [
        LinkTime(kind, link, count, float(size), *mean([spans[kind, size] for spans in ranks]))
        for kind, size in ranks[0]
    ]


def mean(ranks: Sequence[Sequence[Span]]) -> tuple[float, float]:
    """What many calls take, added up: the mean time in us without the slowest call, and the part of
    it in which a rank's processor works; from the spans of the calls on each rank.

    The median says less: Gloo's messages take one of two times, some tenths of a ms or several ms
    (seen with two processes on two cores).
    """
    calls = [
        (
            max(span.end for span in call) - max(span.begun for span in call),
            statistics.mean(span.busy for span in call),
        )
        for call in zip(*ranks, strict=True)
    ]
    times, busy = zip(*sorted(calls)[:-1], strict=True)
    part = min(1.0, max(LEAST_BUSY, sum(busy) / sum(times)))
    return round(statistics.mean(times) * 1e6, 2), round(part, 3)


def _where() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _run_rank(rank: int, count: int, folder: str) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", FutureWarning)  # torch 2.13 renames what 2.11 has
    where = _where()
    if where == "cuda":
        torch.cuda.set_device(rank)
    store = FileStore(f"{folder}/store", count)
    dist.init_process_group(BACKEND[where], store=store, rank=rank, world_size=count)
    communicator = ProcessCommunicator()
    spans: dict[Key, list[Span]] = {}
    for size in SIZES:
        for kind, call in _calls(communicator, size // 4, where).items():
            spans[kind, size] = _spans(call, where)
    torch.save(spans, f"{folder}/{rank}.out")
    communicator.close()
    destroy_groups()


def _calls(
    communicator: ProcessCommunicator, numel: int, where: str
) -> dict[str, Callable[[], Any]]:
    """One call of each kind of communication, on `numel` float32 elements as `collective_us` counts
    bytes."""
    count = communicator.world_size
    ranks = tuple(range(count))
    whole = torch.ones(numel, device=where)
    parts = torch.ones(count, numel // count, device=where)
    calls: dict[str, Callable[[], Any]] = {
        "all_reduce": lambda: communicator.all_reduce(whole, ranks, "sum").wait(),
        "all_gather": lambda: communicator.all_gather(parts[0], ranks).wait(),
        "reduce_scatter": lambda: communicator.reduce_scatter(parts, ranks, "sum").wait(),
        "all_to_all": lambda: communicator.all_to_all(parts, ranks).wait(),
    }
    if count == 2:
        calls["move"] = lambda: _move(communicator, whole)
    return calls


def _move(communicator: ProcessCommunicator, x: torch.Tensor) -> None:
    """A message from rank 0 to rank 1."""
    if communicator.rank == 0:
        communicator.transfer([(x, 1)], []).wait()
    else:
        communicator.transfer([], [(torch.empty_like(x), 0)]).wait()


def _spans(call: Callable[[], Any], where: str) -> list[Span]:
    """Of calls, after one that is not counted; a link between GPUs is busy all the time."""
    product = torch.ones(128, 128, device=where)
    dist.barrier()
    call()
    spans = []
    for _ in range(REPEATS):
        _work(product)
        busy, begun = time.process_time(), time.perf_counter()
        call()
        settle()
        end, busy = time.perf_counter(), time.process_time() - busy
        spans.append(Span(begun, end, busy if where == "cpu" else end - begun))
    return spans


def _work(x: torch.Tensor) -> None:
    until = time.perf_counter() + WORK_S
    while time.perf_counter() < until:
        x @ x
        settle()

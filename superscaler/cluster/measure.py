"""Measure: how fast the machine at hand is: its links between processes, arithmetic and memory."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from superscaler.cluster.cluster import Cluster
from superscaler.cluster.machine import Device, Host, Link
from superscaler.cluster.profile import LinkTime

SIZES = (1 << 10, 1 << 14, 1 << 18, 1 << 22)  # bytes
REPEATS = 7
LINK = {"cpu": "gloo", "cuda": "nvlink"}


def device_kind() -> str:
    """What this machine computes on: a GPU's name, or `cpu`."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name(0).lower().replace(" ", "-")
    return "cpu"


def median_us(call: Callable[[], Any], repeats: int = REPEATS) -> float:
    """The median time of a call, after one that is not counted."""
    call()
    times = []
    for _ in range(repeats):
        _settle()
        begun = time.perf_counter()
        call()
        _settle()
        times.append((time.perf_counter() - begun) * 1e6)
    return statistics.median(times)


def _settle() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def measure_device() -> Device:
    """Peaks of one process with one thread: a large product, a large copy, a small kernel.

    The peaks are such that `cluster.operators` finds these times again.
    """
    from superscaler.cluster.operators import ARITHMETIC, BANDWIDTH

    where = "cuda" if torch.cuda.is_available() else "cpu"
    size = 4096 if where == "cuda" else 512
    tflops = {}
    for dtype in (torch.float32, torch.float64, *((torch.bfloat16,) if where == "cuda" else ())):
        x = torch.randn(size, size, device=where).to(dtype)
        us = median_us(lambda x=x: x @ x)  # type: ignore[misc]
        tflops[str(dtype).removeprefix("torch.")] = round(2 * size**3 / us / 1e6 / ARITHMETIC, 4)
    big = torch.randn(1 << (26 if where == "cuda" else 22), device=where)
    bandwidth = 3 * big.numel() * 4 / median_us(lambda: big + big) / 1e3 / BANDWIDTH
    small = torch.randn(8, device=where)
    launch = median_us(lambda: small + small, 100)
    return Device(device_kind(), tflops, _memory_gbytes(), round(bandwidth, 2), round(launch, 2))


def _memory_gbytes() -> float:
    if torch.cuda.is_available():
        return float(round(torch.cuda.get_device_properties(0).total_memory / 1e9, 1))
    pages = Path("/proc/meminfo").read_text().splitlines()[0].split()[1]
    return float(round(int(pages) / 1e6, 1))


def measure_links(counts: Sequence[int]) -> tuple[LinkTime, ...]:
    """Collectives and messages between processes of this machine, for these numbers of them."""
    found: list[LinkTime] = []
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            mp.spawn(_measure_rank, (count, folder), nprocs=count)  # type: ignore[attr-defined, no-untyped-call]
            found += torch.load(Path(folder) / "times.pt", weights_only=False)
    return tuple(found)


def _measure_rank(rank: int, count: int, folder: str) -> None:
    torch.set_num_threads(1)
    where = "cuda" if torch.cuda.is_available() else "cpu"
    if where == "cuda":
        torch.cuda.set_device(rank)
    dist.init_process_group(
        "nccl" if where == "cuda" else "gloo",
        init_method=f"file://{folder}/meet",
        rank=rank,
        world_size=count,
    )
    times = []
    for size in SIZES:
        for kind, call in _calls(size // 4, rank, count, where).items():
            dist.barrier()
            us = median_us(call)
            times.append(LinkTime(kind, LINK[where], count, float(size), round(us, 2)))
    if rank == 0:
        torch.save(times, Path(folder) / "times.pt")
    dist.destroy_process_group()


def _calls(numel: int, rank: int, count: int, where: str) -> dict[str, Callable[[], Any]]:
    """One call of each kind of communication, on `numel` float32 elements as `collective_us` counts
    bytes."""
    whole = torch.ones(numel // count * count, device=where)
    part = torch.ones(numel // count, device=where)
    calls: dict[str, Callable[[], Any]] = {
        "all_reduce": lambda: dist.all_reduce(whole),
        "all_gather": lambda: dist.all_gather_into_tensor(whole, part),
        "reduce_scatter": lambda: dist.reduce_scatter_tensor(part, whole),
        "all_to_all": lambda: dist.all_to_all_single(torch.empty_like(whole), whole),
    }
    if count == 2:
        calls["move"] = lambda: _there(whole, rank)
    return calls


def _there(x: torch.Tensor, rank: int) -> None:
    """A message from rank 0 to rank 1."""
    if rank == 0:
        dist.send(x, 1)
    else:
        dist.recv(x, 0)


def measured_cluster(device: Device, links: Sequence[LinkTime], num_devices: int) -> Cluster:
    """This machine as a cluster: the link's latency and bandwidth from its two-process messages."""
    import os

    moves = {t.num_bytes: t.us for t in links if t.kind == "move"}
    low, high = min(moves), max(moves)
    rate = (high - low) / max(moves[high] - moves[low], 1e-3) / 1e3
    latency = max(moves[low] - low / (rate * 1e3), 0.1)
    name = LINK["cuda" if torch.cuda.is_available() else "cpu"]
    host = Host(os.cpu_count() or 1, _memory_gbytes(), device.memory_gbytes_per_s)
    link = Link(round(latency, 2), round(rate, 4), name)
    return Cluster(num_devices, device, (link,), Link(1.0, rate, "copy"), host, (), "measured")

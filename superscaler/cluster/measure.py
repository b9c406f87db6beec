"""Measure: how fast the machine at hand computes and copies, and the cluster that it is."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from superscaler.cluster.cluster import LINKS, Cluster
from superscaler.cluster.machine import Device, Host, Link
from superscaler.cluster.profile import LinkTime
from superscaler.dtypes import dtype_name

REPEATS = 7
# What GPUs that ship as clusters call themselves: `NVIDIA H100 80GB HBM3`, `Tesla V100-SXM2-32GB`.
KINDS = {
    ("v100", "32gb"): "v100-32g",
    ("a100", "80gb"): "a100-80g",
    ("h100", "80gb"): "h100-80g",
    ("h200",): "h200",
}


def device_kind() -> str:
    """What this machine computes on: a GPU's kind, or `cpu`."""
    if torch.cuda.is_available():
        return gpu_kind(torch.cuda.get_device_name(0))
    return "cpu"


def gpu_kind(name: str) -> str:
    """The kind that a shipped cluster has for a GPU of that name; its own name for others."""
    low = name.lower()
    for words, kind in KINDS.items():
        if all(word in low for word in words):
            return kind
    return low.replace(" ", "-")


def median_us(call: Callable[[], Any], repeats: int = REPEATS) -> float:
    """The median time of a call, after one that is not counted."""
    call()
    times = []
    for _ in range(repeats):
        settle()
        begun = time.perf_counter()
        call()
        settle()
        times.append((time.perf_counter() - begun) * 1e6)
    return statistics.median(times)


def settle() -> None:
    """Waits until the GPU, if there is one, has done what it was given."""
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
        tflops[dtype_name(dtype)] = round(2 * size**3 / us / 1e6 / ARITHMETIC, 4)
    big = torch.randn(1 << (26 if where == "cuda" else 22), device=where)
    bandwidth = 3 * big.numel() * 4 / median_us(lambda: big + big) / 1e3 / BANDWIDTH
    small = torch.randn(8, device=where)
    launch = median_us(lambda: small + small, 100)
    return Device(device_kind(), tflops, _memory_gbytes(), round(bandwidth, 2), round(launch, 2))


def _memory_gbytes() -> float:
    if torch.cuda.is_available():
        return float(round(torch.cuda.get_device_properties(0).total_memory / 1e9, 1))
    return _host_gbytes()


def _host_gbytes() -> float:
    pages = Path("/proc/meminfo").read_text().splitlines()[0].split()[1]
    return float(round(int(pages) / 1e6, 1))


def measure_copy() -> Link:
    """Between host and device (in memory on a CPU): a small and a large copy."""
    on_gpu = torch.cuda.is_available()
    where = "cuda" if on_gpu else "cpu"
    small, large = (torch.ones(n, pin_memory=on_gpu) for n in (8, 1 << 24))
    latency = median_us(lambda: small.to(where, copy=True), 100)
    us = median_us(lambda: large.to(where, copy=True))
    rate = large.numel() * 4 / max(us - latency, 1e-3) / 1e3
    return Link(round(latency, 2), round(rate, 2), "pcie" if on_gpu else "memory")


def measured_cluster(device: Device, links: Sequence[LinkTime], num_devices: int) -> Cluster:
    """This machine as a cluster: the link's latency and bandwidth from its two-process messages.

    Without any (one GPU) the link is the generic one, which nothing goes over.
    """
    moves = {t.num_bytes: t.us for t in links if t.kind == "move"}
    link = _fitted(moves, links[0].link) if moves else LINKS[0]
    host = Host(os.cpu_count() or 1, _host_gbytes(), measure_copy_rate())
    return Cluster(num_devices, device, (link,), measure_copy(), host, (), "measured")


def _fitted(moves: dict[float, float], name: str) -> Link:
    """Bandwidth from the largest message over the smallest; latency is what is left of that.

    At least half of the largest message's time counts as bandwidth: on a busy machine the smallest
    may take as long.
    """
    low, high = min(moves), max(moves)
    rate = (high - low) / max(moves[high] - moves[low], moves[high] / 2) / 1e3
    latency = max(min(moves.values()) - low / (rate * 1e3), 0.1)
    return Link(round(latency, 2), round(rate, 4), name)


def measure_copy_rate() -> float:
    """The host's memory, in GB/s: bytes read and written by a copy of one thread."""
    large = torch.ones(1 << 24)
    return round(2 * large.numel() * 4 / median_us(large.clone) / 1e3, 2)

"""Operators: how long a kernel takes on a device, by roofline, corrected by measurement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from superscaler.cluster.machine import Device

if TYPE_CHECKING:
    from superscaler.cluster.profile import Profile

# Shares of the peaks that large kernels reach: cuBLAS and cuDNN products in half precision get 60
# to 80 % of a V100's to H100's data sheet, element-wise kernels 80 to 90 % of its bandwidth.
ARITHMETIC = 0.7
BANDWIDTH = 0.8


@dataclass(frozen=True, slots=True)
class OperatorWork:
    """One kernel: flops (twice the multiplications) and the bytes that it reads and writes."""

    target: str
    dtype: str
    flops: float
    num_bytes: float
    shapes: tuple[tuple[int, ...], ...] = ()


def operator_us(work: OperatorWork, device: Device, profile: Profile | None = None) -> float:
    """The time of one kernel. Source of the model: Williams et al., Roofline, CACM 2009.

    Raises PlanError when the profile is of another device.
    """
    if profile is not None:
        measured = profile.operator_us(work, device)
        if measured is not None:
            return measured
    return roofline_us(work, device)


def roofline_us(work: OperatorWork, device: Device) -> float:
    """The longer of arithmetic and memory traffic, and starting the kernel."""
    arithmetic = work.flops / (device.peak_tflops(work.dtype) * ARITHMETIC * 1e6)
    traffic = work.num_bytes / (device.memory_gbytes_per_s * BANDWIDTH * 1e3)
    return device.launch_us + max(arithmetic, traffic)

"""Machine: devices, hosts and links, as a cluster is made of them."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Link:
    """An alpha-beta link: `latency_us` per message, `gbytes_per_s` of bandwidth of each device.

    `devices`: how many neighbours it joins (0: all); see `Cluster.links`.
    """

    latency_us: float
    gbytes_per_s: float
    name: str = "link"
    devices: int = 0

    def transfer_us(self, num_bytes: float) -> float:
        """The time of one message."""
        return self.latency_us + num_bytes / (self.gbytes_per_s * 1e3)


@dataclass(frozen=True, slots=True)
class Device:
    """A device: its peak arithmetic by dtype, its memory, and what starting a kernel takes.

    `tflops` without an entry for a dtype: that of float32, halved for each doubling of the size.
    """

    kind: str = "generic"
    tflops: dict[str, float] = field(default_factory=lambda: {"float32": 50.0, "bfloat16": 200.0})
    memory_gbytes: float = 80.0
    memory_gbytes_per_s: float = 1500.0
    launch_us: float = 4.0

    @property
    def memory_bytes(self) -> int:
        """What it holds, in bytes."""
        return int(self.memory_gbytes * 1e9)

    def peak_tflops(self, dtype: str) -> float:
        """The peak for a dtype, by its torch name without `torch.`."""
        if dtype in self.tflops:
            return self.tflops[dtype]
        single = self.tflops.get("float32") or max(self.tflops.values())
        return single / 2 if dtype in ("float64", "complex64") else single


@dataclass(frozen=True, slots=True)
class Host:
    """The CPU side of a node."""

    cores: int = 32
    memory_gbytes: float = 512.0
    memory_gbytes_per_s: float = 100.0


@dataclass(frozen=True, slots=True)
class Nodes:
    """Further devices of another kind; they come after those before them."""

    num_devices: int
    device: Device
    host: Host = Host()

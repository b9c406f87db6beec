"""Cluster: the devices a plan runs on and what moving bytes between them costs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from superscaler.errors import PlanError


@dataclass(frozen=True, slots=True)
class Link:
    """An alpha-beta link: `latency_us` per message, `gbytes_per_s` of bandwidth."""

    latency_us: float
    gbytes_per_s: float

    def transfer_us(self, num_bytes: float) -> float:
        return self.latency_us + num_bytes / (self.gbytes_per_s * 1e3)


@dataclass(frozen=True, slots=True)
class Cluster:
    """`num_devices` equal devices, `devices_per_node` to a node.

    `inside` links devices of one node, `across` those of different nodes; `tflops` is the
    sustained speed of one device and `memory_gbytes` its memory.
    """

    num_devices: int
    devices_per_node: int = 8
    tflops: float = 100.0
    memory_gbytes: float = 80.0
    inside: Link = Link(5.0, 200.0)
    across: Link = Link(15.0, 25.0)
    name: str = "default"

    @staticmethod
    def load(source: str | Path) -> Cluster:
        """A cluster from a YAML file, or by the name of one that ships.

        Raises PlanError when the file is missing, malformed, or has unknown fields.
        """
        path = Path(source)
        shipped = Path(__file__).parent.parent / "plans" / "clusters" / f"{source}.yaml"
        if not path.exists():
            path = shipped
        if not path.exists():
            raise PlanError(
                f"cluster {str(source)!r}: no such file, and no shipped cluster of that name"
            )
        try:
            data = yaml.safe_load(path.read_text())
        except yaml.YAMLError as error:
            raise PlanError(f"cluster {path}: not valid YAML: {error}") from error
        return Cluster.from_dict(data, str(path))

    @staticmethod
    def from_dict(data: Any, origin: str) -> Cluster:
        if not isinstance(data, dict) or "num_devices" not in data:
            raise PlanError(f"cluster {origin}: expected a mapping with the field num_devices")
        known = set(Cluster.__dataclass_fields__)
        unknown = sorted(set(data) - known)
        if unknown:
            raise PlanError(
                f"cluster {origin}: unknown field {unknown[0]!r}; known: {', '.join(sorted(known))}"
            )
        links = {k: Link(**data[k]) for k in ("inside", "across") if k in data}
        return Cluster(**{**data, **links})

    def link(self, devices: list[int]) -> Link:
        """The slowest link that a group of devices communicates over."""
        nodes = {d // self.devices_per_node for d in devices}
        return self.inside if len(nodes) <= 1 else self.across

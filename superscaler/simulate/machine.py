"""Machine: a cluster and its profile, asked about one program's kernels and communications."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from superscaler.cluster.cluster import Cluster
from superscaler.cluster.communication import collective_us, sent_bytes
from superscaler.cluster.operators import OperatorWork, operator_us
from superscaler.simulate.recording.kernels import Kernels

COPY_LANES = {"copy_in": "copy in", "copy_out": "copy out"}


@dataclass
class Machine:
    """Answers are remembered."""

    cluster: Cluster
    profile: Any = None
    calls: dict[str, Kernels] = field(default_factory=dict)
    operators: dict[object, float] = field(default_factory=dict)
    collectives: dict[object, float] = field(default_factory=dict)
    links: dict[tuple[int, ...], str] = field(default_factory=dict)

    def kind(self, rank: int) -> str:
        """The kind of a rank's device."""
        return str(self.cluster.device(rank).kind)

    def node(self, rank: int) -> int:
        """The number of a rank's node."""
        return rank // self.cluster.devices_per_node

    def is_cuda(self, rank: int) -> bool:
        """Whether the rank runs on a GPU, with NCCL; else on a CPU, with Gloo."""
        return not self.kind(rank).startswith("cpu")

    def duration_us(self, rank: int) -> Callable[[OperatorWork], float]:
        """How long a kernel takes on a rank's device."""
        device, kind = self.cluster.device(rank), self.kind(rank)

        def us(work: OperatorWork) -> float:
            key = (kind, work)
            if key not in self.operators:
                self.operators[key] = operator_us(work, device, self.profile)
            return self.operators[key]

        return us

    def kernels(self, rank: int) -> Kernels:
        """Calls of operators on a rank's device."""
        kind = self.kind(rank)
        if kind not in self.calls:
            self.calls[kind] = Kernels(self.is_cuda(rank), self.duration_us(rank))
        return self.calls[kind]

    def collective_us(self, kind: str, num_bytes: int, ranks: tuple[int, ...]) -> float:
        """How long a collective, or a message (`move`), takes from start to end."""
        if kind in COPY_LANES:
            return self.cluster.copy.transfer_us(num_bytes)
        key = (kind, num_bytes, ranks)
        if key not in self.collectives:
            found = collective_us(kind, num_bytes, ranks, self.cluster, self.profile)
            self.collectives[key] = found
        return self.collectives[key]

    def busy(self, kind: str, num_bytes: int, ranks: tuple[int, ...]) -> float:
        """The part of that time in which lanes, and processors that communicate, are busy; all of
        it unless the profile knows better."""
        if kind in COPY_LANES or self.profile is None:
            return 1.0
        return float(self.profile.busy(kind, num_bytes, ranks, self.cluster))

    def link(self, ranks: tuple[int, ...]) -> str:
        """The name of the slowest link that they communicate over."""
        if ranks not in self.links:
            self.links[ranks] = self.cluster.link_name(list(ranks))
        return self.links[ranks]

    def lane(self, kind: str, ranks: tuple[int, ...]) -> str:
        """The lane that a communication takes of each of its ranks."""
        return COPY_LANES.get(kind) or self.link(ranks)

    def sent_bytes(self, kind: str, num_bytes: int, num_ranks: int) -> int:
        """What one rank sends in it."""
        if kind in COPY_LANES:
            return num_bytes
        return int(sent_bytes(kind, num_bytes, num_ranks))

"""Pipeline problems from costs per stage: what benchmarks, orders and tests schedule."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from superscaler.errors import ScheduleError
from superscaler.schedule.problem import Edge, Hold, Kind, Lane, Memory, Problem, Work


@dataclass(frozen=True)
class Placement:
    """The device of each `[stage][microbatch]`.

    Microbatches that visit the same devices form a chain; chains are numbered as they appear.

    >>> Placement.bidirectional(2, 4).devices
    ((0, 1, 0, 1), (1, 0, 1, 0))
    >>> Placement.v(2, 1).devices
    ((0,), (1,), (1,), (0,))
    """

    devices: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        if not self.devices or not self.devices[0]:
            raise ScheduleError("a placement needs a stage and a microbatch at least; it has none")
        if len({len(row) for row in self.devices}) > 1:
            counts = sorted({len(row) for row in self.devices})
            raise ScheduleError(
                f"every stage of a placement has one device per microbatch; found {counts} of them"
            )

    @classmethod
    def of_stages(cls, devices: Sequence[int], num_microbatches: int) -> Placement:
        """Every microbatch runs stage s on `devices[s]`."""
        return cls(tuple((d,) * num_microbatches for d in devices))

    @classmethod
    def linear(cls, num_devices: int, num_microbatches: int) -> Placement:
        """Stage s on device s."""
        return cls.of_stages(range(num_devices), num_microbatches)

    @classmethod
    def v(cls, num_devices: int, num_microbatches: int) -> Placement:
        """Two stages a device: down and up again, so that the first and the last stage meet."""
        return cls.of_stages(
            [*range(num_devices), *range(num_devices - 1, -1, -1)], num_microbatches
        )

    @classmethod
    def looped(cls, num_devices: int, num_microbatches: int, num_chunks: int = 2) -> Placement:
        """Stage s on device s modulo `num_devices`, `num_chunks` stages a device."""
        return cls.of_stages([*range(num_devices)] * num_chunks, num_microbatches)

    @classmethod
    def bidirectional(cls, num_devices: int, num_microbatches: int) -> Placement:
        """Even microbatches run down the devices, odd ones up: two copies of each parameter."""
        return cls(
            tuple(
                tuple(s if m % 2 == 0 else num_devices - 1 - s for m in range(num_microbatches))
                for s in range(num_devices)
            )
        )

    @property
    def num_stages(self) -> int:
        """Stages a microbatch runs through."""
        return len(self.devices)

    @property
    def num_microbatches(self) -> int:
        """Microbatches of one step."""
        return len(self.devices[0])

    @cached_property
    def num_devices(self) -> int:
        """One more than the largest device."""
        return 1 + max(max(row) for row in self.devices)

    @cached_property
    def chains(self) -> tuple[int, ...]:
        """Per microbatch: its chain."""
        numbers: dict[tuple[int, ...], int] = {}
        return tuple(numbers.setdefault(c, len(numbers)) for c in zip(*self.devices))

    def stages_on(self, device: int) -> tuple[int, ...]:
        """The stages that some microbatch runs on a device, ascending."""
        return tuple(s for s, row in enumerate(self.devices) if device in row)

    @property
    def num_copies(self) -> int:
        """Devices that hold a copy of a stage's parameters, at most."""
        return max(len(set(row)) for row in self.devices)

    @property
    def form(self) -> str:
        """The form of the placement: linear, v, looped, bidirectional or free."""
        if len(set(self.chains)) > 1:
            mirrored = Placement.bidirectional(self.num_devices, self.num_microbatches)
            return "bidirectional" if self == mirrored else "free"
        row = [stage[0] for stage in self.devices]
        chunks = [row[i : i + self.num_devices] for i in range(0, len(row), self.num_devices)]
        first = chunks[0]
        if sorted(first) != list(range(self.num_devices)):
            return "free"
        if len(chunks) == 1:
            return "linear"
        if len(chunks) == 2 and chunks[1] == first[::-1]:
            return "v"
        return "looped" if all(chunk == first for chunk in chunks) else "free"


@dataclass(frozen=True)
class StageCosts:
    """Costs of one microbatch per stage: ticks of F, B and W; bytes of activations.

    `activation` is what F leaves in memory until the backward, `kept` the part of it that W reads.
    `latency`: ticks between stages on different devices.
    """

    forward: tuple[int, ...]
    backward: tuple[int, ...]
    weight: tuple[int, ...]
    activation: tuple[int, ...]
    kept: tuple[int, ...]
    latency: int = 0

    def __post_init__(self) -> None:
        rows = (self.forward, self.backward, self.weight, self.activation, self.kept)
        if len({len(row) for row in rows}) > 1:
            counts = [len(row) for row in rows]
            raise ScheduleError(f"costs are one number per stage and kind; found {counts} numbers")
        for stage, (whole, kept) in enumerate(zip(self.activation, self.kept)):
            if kept > whole:
                raise ScheduleError(
                    f"stage {stage}: W keeps {kept} bytes of {whole} bytes of activations; "
                    "give at most as much"
                )

    @classmethod
    def uniform(
        cls,
        num_stages: int,
        passes: tuple[int, int, int] = (1, 1, 1),
        *,
        latency: int = 0,
        activation: int = 1,
        kept: int | None = None,
    ) -> StageCosts:
        """The same ticks of (F, B, W) in every stage; W keeps all activations unless told."""
        forward, backward, weight = ((ticks,) * num_stages for ticks in passes)
        held = activation if kept is None else kept
        whole = (activation,) * num_stages
        return cls(forward, backward, weight, whole, (held,) * num_stages, latency)

    @property
    def num_stages(self) -> int:
        """How many stages the costs are of."""
        return len(self.forward)


Capacity = int | tuple[int, ...] | None  # bytes per device; None: as much as there may be


@dataclass(frozen=True)
class Pipeline:
    """What a pipeline order is made for: placement, costs, and bytes for activations per device.

    `is_fused`: B and W are one work, and the gradient leaves at its end.
    """

    placement: Placement
    costs: StageCosts
    capacity: Capacity = None
    is_fused: bool = False

    def __post_init__(self) -> None:
        if self.costs.num_stages != self.placement.num_stages:
            raise ScheduleError(
                f"costs of {self.costs.num_stages} stages for a placement of "
                f"{self.placement.num_stages}; give one cost per stage"
            )

    @cached_property
    def problem(self) -> Problem:
        """The pipeline as works, edges and holds."""
        return pipeline_problem(
            self.costs, self.placement, capacity=self.capacity, is_fused=self.is_fused
        )

    def capacities(self) -> tuple[int, ...] | None:
        """Bytes per device, or None where memory does not matter."""
        if self.capacity is None or isinstance(self.capacity, tuple):
            return self.capacity
        return (self.capacity,) * self.placement.num_devices


def pipeline_problem(
    costs: StageCosts,
    placement: Placement,
    *,
    capacity: Capacity = None,
    is_fused: bool = False,
) -> Problem:
    """F, B and W of every stage and microbatch, one compute lane and one memory per device.

    An activation is held from the start of F to the end of B, the part that W reads to the end
    of W. With `is_fused`, B and W are one work, and the gradient leaves at its end. A `capacity`
    of None leaves memory unlimited.
    """
    builder = _Builder(costs, placement, is_fused)
    for microbatch in range(placement.num_microbatches):
        for stage in range(placement.num_stages):
            builder.add(stage, microbatch)
    for microbatch in range(placement.num_microbatches):
        builder.connect(microbatch)
    devices = range(placement.num_devices)
    per_device = capacity if isinstance(capacity, tuple) else (capacity,) * placement.num_devices
    if len(per_device) != placement.num_devices:
        raise ScheduleError(
            f"capacities of {len(per_device)} devices for a placement on {placement.num_devices}; "
            "give one number, or one per device"
        )
    unlimited = sum(hold.amount for hold in builder.holds)
    return Problem(
        lanes=tuple(Lane((d,)) for d in devices),
        works=tuple(builder.works),
        edges=tuple(builder.edges),
        memories=tuple(
            Memory((d,), unlimited if limit is None else limit)
            for d, limit in zip(devices, per_device)
        ),
        holds=tuple(builder.holds),
    )


@dataclass
class _Builder:
    costs: StageCosts
    placement: Placement
    is_fused: bool
    works: list[Work] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)
    holds: list[Hold] = field(default_factory=list)
    number: dict[tuple[Kind, int, int], int] = field(default_factory=dict)

    def add(self, stage: int, microbatch: int) -> None:
        """The works of one stage and microbatch, what they hold, and the edges between them."""
        device, costs = self.placement.devices[stage][microbatch], self.costs
        backward, weight = costs.backward[stage], costs.weight[stage]
        forward = self._work(Kind.FORWARD, stage, microbatch, costs.forward[stage])
        if self.is_fused:
            last = end = self._work(Kind.FUSED, stage, microbatch, backward + weight)
        else:
            end = self._work(Kind.BACKWARD, stage, microbatch, backward)
            last = self._work(Kind.WEIGHT, stage, microbatch, weight)
            self.edges.append(Edge(end, last))
        self.edges.append(Edge(forward, end))
        kept = costs.kept[stage]
        for amount, release in ((costs.activation[stage] - kept, end), (kept, last)):
            if amount:
                name = f"activations of stage {stage}, microbatch {microbatch}"
                self.holds.append(Hold(device, amount, (forward,), (release,), name))

    def _work(self, kind: Kind, stage: int, microbatch: int, duration: int) -> int:
        chain = self.placement.chains[microbatch]
        name = f"{kind}{stage}.{microbatch}" + (f"'{chain}" if chain else "")
        device = self.placement.devices[stage][microbatch]
        self.number[kind, stage, microbatch] = len(self.works)
        self.works.append(Work(name, kind, stage, microbatch, (device,), duration, chain))
        return len(self.works) - 1

    def connect(self, microbatch: int) -> None:
        """Edges between stages: activations forward, gradients backward."""
        backward = Kind.FUSED if self.is_fused else Kind.BACKWARD
        for kind, before, after in self._steps(backward):
            devices = [self.placement.devices[s][microbatch] for s in (before, after)]
            latency = self.costs.latency if devices[0] != devices[1] else 0
            first, second = (self.number[kind, s, microbatch] for s in (before, after))
            self.edges.append(Edge(first, second, latency))

    def _steps(self, backward: Kind) -> Iterator[tuple[Kind, int, int]]:
        for stage in range(self.placement.num_stages - 1):
            yield Kind.FORWARD, stage, stage + 1
            yield backward, stage + 1, stage

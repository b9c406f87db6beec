"""Simulation: what happens in one step of a program on a cluster, as plain data.

Ranks that do the same at the same times are one class, so a step on 1,024 devices is as small as
its distinct programs. What functions consist of is said once, however often they run.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class OperatorInfo:
    """One operator (or communication) inside a function: where it comes from and what it costs.

    `offset_us` is from the function's start when nothing has to be waited for.
    """

    name: str
    target: str
    module: str
    source: str  # file:line
    shapes: str  # of what it writes, on one rank: "float32[4, 64, 128]"
    num_bytes: int  # written
    offset_us: float
    duration_us: float


@dataclass(frozen=True, slots=True)
class FunctionInfo:
    """A function of the program: `kind` is one of the scheduler's (`F`, `B`, `W`, `BW`, `U`, `C`,
    ...), `stage` -1 where there is none, `doc` what a communication moves, from -> to."""

    name: str
    kind: str
    stage: int
    doc: str
    operators: tuple[OperatorInfo, ...]


@dataclass(frozen=True, slots=True)
class Event:
    """A call of a function, or a message, on one lane of a class of ranks.

    `lane` is "compute", "copy in", "copy out", "host", or a link's name; `function` a number in
    `Simulation.functions`. `what` is the call's name, or what travels; `peers` the other ranks of
    the class's first rank; `num_bytes` what that rank sends. A "wait" is an event on the compute
    lane during which the rank does nothing but wait for communication.
    """

    lane: str
    function: int
    time: tuple[int, ...]
    microbatch: int  # -1: none
    start_us: float
    end_us: float
    what: str
    kind: str = "run"  # or "wait", "communication"
    num_bytes: int = 0
    peers: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds memory at a class's peak."""

    name: str
    num_bytes: int


@dataclass(frozen=True, slots=True)
class RankClass:
    """Ranks that do the same: `events` by start, `memory` a step curve of (us, bytes alive).

    `resident_bytes` (parameters, optimizer states, buffers) are part of the curve.
    """

    ranks: tuple[int, ...]
    program: int
    events: tuple[Event, ...]
    memory: tuple[tuple[float, int], ...]
    resident_bytes: int
    peak_bytes: int
    capacity_bytes: int
    holders: tuple[Holder, ...]
    busy_us: dict[str, float]  # by lane
    exposed_us: float  # waiting for communication while there is nothing to compute
    sent_bytes: dict[str, int]  # by link, per rank
    host_peak_bytes: int = 0  # in host memory, per rank

    @property
    def name(self) -> str:
        """`rank 3`, `ranks 0-7`."""
        if len(self.ranks) == 1:
            return f"rank {self.ranks[0]}"
        runs = self.ranks == tuple(range(self.ranks[0], self.ranks[-1] + 1))
        return f"ranks {self.ranks[0]}-{self.ranks[-1]}" if runs else f"ranks {self.ranks[0]},..."


@dataclass(frozen=True, slots=True)
class Traffic:
    """`num_bytes` go from ranks of class `source` to ranks of class `target` in a step (totals)."""

    source: int
    target: int
    num_bytes: int


@dataclass(frozen=True)
class Simulation:
    """One step: `step_us` long, on `classes` of ranks.

    `schedule` says how the order was found: keys "made_by", "status", "length_us", "bound_us",
    "gap", where a scheduler was used. `flops` is the model's arithmetic of a whole step (without
    what is recomputed), `peak_tflops` of all devices together.
    """

    name: str
    cluster: str
    world_size: int
    step_us: float
    classes: tuple[RankClass, ...]
    functions: tuple[FunctionInfo, ...]
    traffic: tuple[Traffic, ...]
    link_bytes: dict[str, int]
    flops: float
    peak_tflops: float
    schedule: dict[str, object] = field(default_factory=dict)
    plan: str = ""  # as YAML
    notes: tuple[str, ...] = ()

    @property
    def peak_bytes(self) -> int:
        """Of the rank that needs most."""
        return max(c.peak_bytes for c in self.classes)

    @property
    def host_peak_bytes(self) -> int:
        """Of the rank that needs most host memory."""
        return max(c.host_peak_bytes for c in self.classes)

    @property
    def bubble(self) -> float:
        """The share of all devices' time in the step in which they do not compute."""
        busy = sum(c.busy_us.get("compute", 0.0) * len(c.ranks) for c in self.classes)
        return 1.0 - busy / (self.step_us * self.world_size) if self.step_us else 0.0

    @property
    def exposed_us(self) -> float:
        """Communication that no computation hides: the mean over ranks."""
        return sum(c.exposed_us * len(c.ranks) for c in self.classes) / self.world_size

    @property
    def model_flops_utilisation(self) -> float:
        """Useful arithmetic over what the devices could do in the time (PaLM, arXiv 2204.02311)."""
        return self.flops / (self.peak_tflops * 1e6 * self.step_us) if self.step_us else 0.0

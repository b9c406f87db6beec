"""Best placement: where a plan's stages begin and on which devices they run, by the scheduler.

Every piece of the forward that could be a stage is compiled as one, on each kind of group of
devices; what these stages take and hold is what `schedule.placement` decides upon.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from itertools import pairwise, starmap
from statistics import median

from superscaler.cluster.cluster import Cluster
from superscaler.cluster.profile import Profile
from superscaler.errors import PlanError
from superscaler.graph.axis import Axes
from superscaler.graph.graph import Graph
from superscaler.materialize.program import Program
from superscaler.plan import Plan, PlanSchedule, PlanStage
from superscaler.schedule.costs import StepCosts
from superscaler.schedule.orders import PipelineOrder
from superscaler.schedule.placement import KINDS, LayerCost, PlacedSchedule, place
from superscaler.schedule.solver import Progress
from superscaler.search.best_order import order_of
from superscaler.search.step_costs import owned_bytes, step_costs
from superscaler.simulate.machine import Machine
from superscaler.transform.cuts import cheap_cuts
from superscaler.transform.stages import forward_operators

PIECES = 32  # at most, for each group of devices
ROUNDS = 4  # microbatches for each group that a placement is judged by: the rest run like these
TICKS = 100_000  # of all microbatches on one group of devices


@dataclass(frozen=True)
class PlacedPlan:
    """A plan with stages where the scheduler has put them."""

    plan: Plan
    found: PlacedSchedule

    @property
    def order(self) -> PipelineOrder | None:
        """The order by which the placement was judged; None where that was with fewer microbatches
        than the plan has."""
        count = 1 + max(work.microbatch for work in self.found.problem.works)
        if count < self.plan.microbatches:
            return None
        return order_of(self.found.problem, self.found.schedule)

    @property
    def note(self) -> str:
        """What was decided, in a line."""
        stages = (
            f"stage {number} on {', '.join(map(str, stage.devices))}"
            + (f" from {stage.first}" if stage.first else "")
            for number, stage in enumerate(self.plan.stages)
        )
        return f"stages placed by the solver ({self.found.tried} tried): {'; '.join(stages)}"


def best_placement(
    graph: Graph,
    axes: Axes,
    plan: Plan,
    cluster: Cluster,
    program_of: Callable[[Plan], Program],
    profile: Profile | None = None,
    *,
    time_limit_s: float,
    progress: Callable[[Progress], None] | None = None,
) -> PlacedPlan:
    """Decide the stages of a plan whose `schedule` has a placement; `program_of` compiles a plan up
    to its materialized program.

    Raises PlanError for a plan that places operators in another way as well, ScheduleError when
    nothing fits the memory.
    """
    groups = _groups(plan)
    forward = forward_operators(graph)
    cuts = cheap_cuts(graph, axes, forward, len(groups), PIECES * len(groups))
    firsts = ["", *(graph.operators[op].name for op in cuts)]
    measured: dict[Hashable, _Measured] = {}
    for group in groups:
        key = _kind(cluster, group)
        if key not in measured:
            program = program_of(_probe(plan, group, firsts))
            measured[key] = _measure(program, cluster, profile, len(firsts))
    rows = [measured[_kind(cluster, group)] for group in groups]
    microbatches = min(plan.microbatches, ROUNDS * len(groups))
    tick_us = max(sum(row.forward_us) * 3 * microbatches for row in rows) / TICKS
    placement = plan.schedule.placement
    found = place(
        [row.layers(tick_us) for row in rows],
        len(groups),
        microbatches,
        memory=tuple(row.room for row in rows),
        latency=round(_hop_us(cluster, groups, rows[0].boundary_bytes) / tick_us),
        stages_per_device=plan.schedule.stages_per_device,
        kinds=KINDS if placement == "free" else (placement,),
        is_fused=not plan.splits_backward,
        time_limit_s=time_limit_s,
        progress=progress,
    )
    stages = tuple(
        replace(groups[device], first=firsts[cut]) for cut, device in zip(found.cuts, found.devices)
    )
    left = replace(plan.schedule, placement="", stages_per_device=PlanSchedule.stages_per_device)
    return PlacedPlan(replace(plan, stages=stages, schedule=left), found)


def _groups(plan: Plan) -> list[PlanStage]:
    """The stages' groups of devices. Raises PlanError where they are no choice."""
    placement = plan.schedule.placement
    if plan.order != "auto":
        raise PlanError(
            f"placement {placement}: the scheduler places stages together with the order; expected "
            f"order auto, found {plan.order.splitlines()[0]!r}"
        )
    if plan.assign:
        raise PlanError(
            f"placement {placement}: expected no assign entries, which place operators themselves; "
            "leave out one of them"
        )
    groups: dict[tuple[int, ...], PlanStage] = {}
    for number, stage in enumerate(plan.stages):
        if stage.modules or stage.first:
            raise PlanError(
                f"placement {placement}: stage {number} says what it consists of "
                f"({stage.first or ', '.join(stage.modules)}); leave that to the scheduler, or "
                "leave out the placement"
            )
        if stage.mesh != plan.stages[0].mesh:
            raise PlanError(
                f"placement {placement}: expected the mesh of stage 0 on every stage, found "
                f"{stage.mesh} on stage {number}; any stage may come to any group of devices"
            )
        groups.setdefault(stage.devices, stage)
    taken: set[int] = set()
    for stage in groups.values():
        if taken & set(stage.devices):
            raise PlanError(
                f"placement {placement}: expected groups of devices that are equal or apart, found "
                f"device {min(taken & set(stage.devices))} in two"
            )
        taken |= set(stage.devices)
    return list(groups.values())


def _kind(cluster: Cluster, group: PlanStage) -> Hashable:
    """Groups of one kind take the same time for the same work."""
    devices = group.devices
    return repr([cluster.device(d) for d in devices]), cluster.level(devices)


def _hop_us(cluster: Cluster, groups: list[PlanStage], boundary_bytes: list[int]) -> float:
    """What a usual cut sends, from a usual group to the next."""
    if len(groups) < 2 or not boundary_bytes:
        return 0.0
    machine, size = Machine(cluster), int(median(boundary_bytes))
    return median(
        machine.collective_us("move", size, (a.devices[0], b.devices[0]))
        for a, b in pairwise(groups)
    )


def _probe(plan: Plan, group: PlanStage, firsts: list[str]) -> Plan:
    """Each piece as a stage, all on one group of devices."""
    stages = tuple(replace(group, first=first) for first in firsts)
    backward = "split" if plan.splits_backward else "fused"
    return replace(plan, stages=stages, order="none", backward=backward, schedule=PlanSchedule())


@dataclass(frozen=True)
class _Measured:
    """Per piece: us and bytes of one microbatch on a group of devices; `room` for them there."""

    forward_us: list[float]
    backward_us: list[float]
    weight_us: list[float]
    activation: list[int]
    kept: list[int]
    resident: list[int]
    boundary_bytes: list[int]
    room: int

    def layers(self, tick_us: float) -> tuple[LayerCost, ...]:
        """In ticks; nothing takes no time at all."""
        forward, backward, weight = (
            [max(1, round(us / tick_us)) for us in row]
            for row in (self.forward_us, self.backward_us, self.weight_us)
        )
        rows = zip(forward, backward, weight, self.activation, self.kept, self.resident)
        return tuple(starmap(LayerCost, rows))


def _measure(program: Program, cluster: Cluster, profile: Profile | None, count: int) -> _Measured:
    costs = step_costs(program, cluster, profile)
    labels = [_label(segment.label) for segment in program.tasks.segments]
    took: dict[tuple[str, int], float] = defaultdict(float)
    for (phase, piece), us in zip(labels, costs.duration_us):
        took[phase, piece] += us
    resident = _resident(program, labels, costs, count)
    activation, kept, boundary = _activations(labels, costs, count)
    spare = min(costs.capacity_bytes[d] for d in costs.resident_bytes or costs.capacity_bytes)
    temporary = [
        size for (phase, _), size in zip(labels, costs.temporary_bytes) if phase != "update"
    ]
    forward, backward, weight = (
        [took[phase, i] for i in range(count)] for phase in ("forward", "backward", "weight")
    )
    room = spare - max(temporary, default=0)
    return _Measured(forward, backward, weight, activation, kept, resident, boundary, room)


def _label(label: str) -> tuple[str, int]:
    """A segment's phase and piece; no piece is -1."""
    phase, _, piece = label.rpartition("_")
    return (phase, int(piece)) if piece.isdigit() else (label, -1)


def _resident(
    program: Program, labels: list[tuple[str, int]], costs: StepCosts, count: int
) -> list[int]:
    """Bytes that a piece keeps through the step: parameters that it reads and their states, sums of
    gradients."""
    graph, home = program.partition.graph, program.tasks.home
    found = [0] * count
    for own in program.owned:
        readers = [op for op, _ in graph.consumers.get(own.tensor, ())]
        pieces = {piece for op in readers for _, piece in [labels[home[op]]] if piece >= 0}
        for piece in pieces or {0}:
            found[piece] += owned_bytes(program, own)
    for held in costs.held:
        _, piece = labels[held.source]
        if held.is_sum and piece >= 0:
            found[piece] += held.num_bytes
    return found


def _activations(
    labels: list[tuple[str, int]], costs: StepCosts, count: int
) -> tuple[list[int], list[int], list[int]]:
    """Per piece: bytes held from its forward to the backward, those of them that W reads, and
    bytes that the next piece's forward reads."""
    activation, kept, boundary = ([0] * count for _ in range(3))
    for held in costs.held:
        phase, piece = labels[held.source]
        if phase != "forward" or piece < 0 or held.is_sum:
            continue
        readers = {labels[reader.segment] for reader in held.readers}
        if any(p in ("backward", "weight") for p, _ in readers):
            activation[piece] += held.num_bytes
        if any(p == "weight" for p, _ in readers):
            kept[piece] += held.num_bytes
        if any(p == "forward" and q > piece for p, q in readers):
            boundary[piece] += held.num_bytes
    return activation, kept, boundary[:-1]

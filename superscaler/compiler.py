"""The driver: graph, plan and cluster to a program, stage by stage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from superscaler.cluster import Cluster, ClusterLike, ProfileLike, as_cluster, as_profile
from superscaler.cluster.profile import Profile
from superscaler.emit.assemble import assemble
from superscaler.emit.files import fingerprint, write_files
from superscaler.emit.listing import Listing
from superscaler.emit.rendezvous import Problem
from superscaler.emit.save import save_files
from superscaler.emit.validate import raise_problems, validate_files
from superscaler.errors import PlanError
from superscaler.garbage import no_collections
from superscaler.graph.axis import Axes
from superscaler.graph.graph import Graph
from superscaler.graph.tensor import TensorKind
from superscaler.materialize.dependencies import materialize
from superscaler.materialize.program import Program
from superscaler.plan import Plan, PlanOffload, PlanSchedule
from superscaler.schedule.build import build_schedule
from superscaler.schedule.orders import sequences
from superscaler.schedule.problem import Schedule
from superscaler.schedule.solver import Progress
from superscaler.schedule.validate import validate_schedule
from superscaler.search.best_ahead import best_ahead, best_ahead_and_order
from superscaler.search.best_order import Ordered, best_order
from superscaler.search.best_placement import PlacedPlan, best_placement
from superscaler.simulate.simulation import Simulation
from superscaler.trace.axes import infer_axes
from superscaler.transform.cut_regions import cut_regions
from superscaler.transform.offload import offload_activations
from superscaler.transform.parameters import once_a_step
from superscaler.transform.partial import propagate_partial
from superscaler.transform.partition import Partition
from superscaler.transform.primitives import Replicate, Split, op_assign, op_trans, start
from superscaler.transform.recompute import Region, module_regions, recompute
from superscaler.transform.rest import offload_batch, offload_parameters, offload_states
from superscaler.transform.select import select
from superscaler.transform.spmd import apply_plan
from superscaler.transform.stages import num_visits
from superscaler.transform.stripes import striped_axes
from superscaler.transform.views import delay_views

Policy = Callable[[Graph], Partition]


@dataclass(frozen=True)
class CompiledProgram:
    """A compiled training step: `files` are its Python files and manifest by name."""

    program: Program
    plan: Plan | None
    files: dict[str, str] = field(repr=False)
    ordered: Ordered | None = field(default=None, repr=False)  # by the solver
    placed: PlacedPlan | None = field(default=None, repr=False)  # by the solver
    listing: Listing = field(kw_only=True, repr=False)
    cluster: Cluster = field(kw_only=True)  # that it was compiled for

    @property
    def schedule(self) -> Schedule | None:
        """How good the order is known to be, where the solver made it (`order: auto`)."""
        return self.ordered.schedule if self.ordered else None

    @property
    def world_size(self) -> int:
        return self.program.partition.num_devices

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of how the plan was honoured."""
        placed = (self.placed.note,) if self.placed else ()
        return (*placed, *self.program.notes, *(self.schedule.notes if self.schedule else ()))

    @property
    def num_programs(self) -> int:
        """Distinct programs: ranks with equal code share one."""
        return sum(1 for name in self.files if name.startswith("program_"))

    def validate(self) -> list[Problem]:
        """What is wrong with the emitted files (see `emit.validate`), [] when nothing is.

        `compile` calls this too and raises what it finds.
        """
        return validate_files(self.files)

    def simulate(
        self,
        cluster: ClusterLike | None = None,
        profile: ProfileLike | None = None,
        *,
        name: str = "",
    ) -> Simulation:
        """Times, lanes and memory of one step, without running it.

        On the cluster that it was compiled for, unless another (or its file or name) is given;
        `profile` has measured times of operators and links. Raises SimulateError when the cluster
        is too small.
        """
        from superscaler.simulate.simulate import simulate

        found = simulate(self, as_cluster(cluster) or self.cluster, as_profile(profile), name=name)
        plan = self.plan.to_yaml() if self.plan else ""
        return replace(found, plan=plan, schedule=self._schedule_facts())

    def _schedule_facts(self) -> dict[str, object]:
        """What a scheduler said of the order; {} where none was used."""
        if self.ordered is None:
            return {}
        found, tick_us = self.ordered.schedule, self.ordered.problem.tick_us
        return {
            "made_by": found.made_by,
            "status": found.status,
            "length_us": found.length * tick_us,
            "bound_us": found.bound * tick_us,
            "gap": found.gap,
        }

    def save(self, folder: str | Path) -> Path:
        """Write the program's files into `folder`, replacing an earlier program there.

        Raises MaterializeError, and writes nothing, when files of these names are there that are
        no program's.
        """
        return save_files(self.files, Path(folder))


@no_collections()
def compile(
    graph: Graph,
    plan: Plan | Partition | str | Path | Policy,
    cluster: ClusterLike | None = None,
    *,
    axes: Axes | None = None,
    header: dict[str, Any] | None = None,
    profile: ProfileLike | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> CompiledProgram:
    """Compile a traced step under a plan.

    `profile` has measured times of operators and links, for what the scheduler decides; `progress`
    is told of every better order that the solver finds, where the plan's order is auto.

    `plan` is a plan, its file, a policy call as text, a partition made with the primitives, or a
    function that makes such a partition of a graph; `cluster` a cluster, its file, or its name.

    Raises PlanError, TransformError, ScheduleError or MaterializeError when the plan cannot be
    honoured; nothing is changed silently.
    """
    cluster, profile = as_cluster(cluster), as_profile(profile)
    plan, placed = _chosen(plan, graph), None
    if isinstance(plan, Partition):
        partition = plan
        _check_same_graph(graph, partition.graph)
    else:
        axes = axes or infer_axes(graph)
        at = cluster or Cluster(plan.num_devices)
        placed = _placed(graph, axes, plan, at, profile, progress)
        plan = placed.plan if placed else plan
        partition = partition_of(graph, plan, axes)
    cluster = cluster or Cluster(partition.num_devices)
    program = _materialized(partition, cluster)
    ordered = None
    if isinstance(plan, Plan):
        program, ordered = _scheduled(program, plan, cluster, profile, placed, progress)
    listing = assemble(program)
    text = _plan_text(plan, program, ordered) if isinstance(plan, Plan) else ""
    head = {"plan": text, "cluster": cluster.to_dict(), **(header or {})}
    files = write_files(program, listing, head)
    files["manifest.json"] = _with_fingerprint(files)
    if text:
        files["plan.yaml"] = text
    kept = plan if isinstance(plan, Plan) else None
    compiled = CompiledProgram(
        program, kept, files, ordered, placed, listing=listing, cluster=cluster
    )
    raise_problems(compiled.validate())
    return compiled


def _chosen(plan: Plan | Partition | str | Path | Policy, graph: Graph) -> Plan | Partition:
    """The plan or partition that is meant. Raises PlanError for another kind of value."""
    from superscaler.policies import parse_plan

    made = plan(graph) if callable(plan) else plan
    if isinstance(made, (str, Path)):
        return parse_plan(str(made))
    if isinstance(made, (Plan, Partition)):
        return made
    raise PlanError(
        "compile: expected a plan, its file, a policy call as text, a partition, or a function "
        f"from a graph to a partition, found {repr(made)[:80]}"
    )


def _scheduled(
    program: Program,
    plan: Plan,
    cluster: Cluster,
    profile: Profile | None,
    placed: PlacedPlan | None,
    progress: Callable[[Progress], None] | None,
) -> tuple[Program, Ordered | None]:
    """The program with what the plan leaves to the scheduler: the order, the copies ahead."""
    schedule, is_auto = plan.schedule, plan.offload.ahead == "auto"
    if plan.order != "auto":
        return (best_ahead(program, cluster, profile) if is_auto else program), None

    def order(candidate: Program, time_limit_s: float) -> Ordered:
        return best_order(
            candidate,
            cluster,
            profile,
            time_limit_s=time_limit_s,
            objective=schedule.objective,
            progress=progress,
            known=placed.order if placed else None,
        )

    if is_auto:
        ordered = best_ahead_and_order(program, cluster, order, schedule.time_limit_s, profile)
    else:
        ordered = order(program, schedule.time_limit_s)
    return ordered.program, ordered


def _placed(
    graph: Graph,
    axes: Axes,
    plan: Plan,
    cluster: Cluster,
    profile: Profile | None,
    progress: Callable[[Progress], None] | None,
) -> PlacedPlan | None:
    """The plan with stages where the scheduler puts them; None where the plan has placed them. Half
    of the time that the plan gives is for this, the rest for the order."""
    if not plan.schedule.placement:
        return None
    half = plan.schedule.time_limit_s / 2
    rest = replace(plan, schedule=replace(plan.schedule, time_limit_s=half))
    return best_placement(
        graph,
        axes,
        rest,
        cluster,
        lambda probe: _materialized(partition_of(graph, probe, axes), cluster),
        profile,
        time_limit_s=half,
        progress=progress,
    )


def _materialized(partition: Partition, cluster: Cluster) -> Program:
    """The program of a partition, its tasks in a first order."""
    check_devices(partition, cluster)
    partition = propagate_partial(delay_views(partition))
    tasks, timed = build_schedule(partition)
    validate_schedule(tasks, timed)
    return materialize(partition, tasks, timed, cluster)


def _plan_text(plan: Plan, program: Program, ordered: Ordered | None) -> str:
    """The plan as it was honoured: with the order, and the copies ahead, that were found in place
    of `auto`."""
    if plan.offload.ahead == "auto":
        offload = replace(plan.offload, ahead=program.partition.copies_ahead)
        plan = replace(plan, offload=offload)
    if ordered is not None and any(ordered.order.lines):
        plan = replace(plan, order=str(ordered.order), schedule=PlanSchedule())
    return plan.to_yaml()


def _check_same_graph(graph: Graph, other: Graph) -> None:
    """Raises PlanError unless a partition's graph has the graph's parameters and batch."""
    kinds = (TensorKind.PARAM, TensorKind.BUFFER, TensorKind.INPUT)
    mine, theirs = (
        {t.name: (t.shape, t.dtype) for kind in kinds for t in g.of_kind(kind)}
        for g in (graph, other)
    )
    for name in dict.fromkeys([*mine, *theirs]):
        if mine.get(name) != theirs.get(name):
            raise PlanError(
                "the partition is of another graph: "
                f"{name} is {theirs.get(name, 'missing')} in it, "
                f"{mine.get(name, 'missing')} here; give a function from a graph to a partition"
            )


def _with_fingerprint(files: dict[str, str]) -> str:
    digest = fingerprint(*(files[name] for name in sorted(files)))
    return files["manifest.json"].replace("{\n", f'{{\n "fingerprint": "{digest}",\n', 1)


def partition_of(graph: Graph, plan: Plan, axes: Axes) -> Partition:
    """The partition that a plan describes."""
    axes = striped_axes(graph, axes, plan)
    graph, axes = recompute(graph, axes, cut_regions(graph, axes, plan))
    graph, axes = recompute(graph, axes, _recomputed(graph, axes, plan))
    graph, axes = _offloaded(graph, axes, plan.offload)
    partition = apply_plan(graph, axes, plan)
    for rewrite in plan.rewrites:
        chosen = select(partition.graph, *rewrite.operators)
        partition = op_trans(partition, chosen, rewrite.algorithm, **rewrite.options)
    for entry in plan.assign:
        partition = _assigned(partition, entry)
    labels = {placed.label for placed in partition.placed}
    devices = [stage.devices for stage in plan.stages] * num_visits(labels, len(plan.stages))
    found = sequences(
        plan.order, devices, plan.microbatches, labels, is_fused=plan.backward == "fused"
    )
    partition = replace(partition, sequences=found)
    ahead = plan.offload.ahead  # what is left open is decided with the order
    return partition if ahead == "auto" else replace(partition, copies_ahead=ahead)


def _recomputed(graph: Graph, axes: Axes, plan: Plan) -> dict[int, Region]:
    """The regions that run again. What runs once for all microbatches is there all the time."""
    found = module_regions(graph, plan.recompute)
    once = once_a_step(graph, axes) if plan.microbatches > 1 else set()
    return {op: region for op, region in found.items() if op not in once}


def _offloaded(graph: Graph, axes: Axes, offload: PlanOffload) -> tuple[Graph, Axes]:
    if offload.activations:
        graph, axes = offload_activations(graph, axes, offload.activations)
    if offload.parameters:
        graph, axes = offload_parameters(graph, axes, offload.parameters)
    if offload.batch:
        graph, axes = offload_batch(graph, axes)
    return (offload_states(graph) if offload.optimizer else graph), axes


def _assigned(partition: Partition, entry: Any) -> Partition:
    """One `assign` entry of a plan: the primitives on a selection, from scratch."""
    ops = select(partition.graph, *entry.operators, phase=entry.phase)
    fresh = start(partition.graph, partition.axes)
    for axis, parts in entry.splits:
        algorithm = (
            Replicate(parts) if axis == "replicate" else Split(axis, parts, uneven=entry.uneven)
        )
        fresh = op_trans(fresh, ops, algorithm)
    fresh = op_assign(fresh, ops, np.asarray(entry.devices))
    placed = list(partition.placed)
    for op in ops:
        placed[op] = fresh.placed[op]
    return partition.with_placed(tuple(placed))


def check_devices(partition: Partition, cluster: Cluster) -> None:
    """Raises PlanError when the plan names a device that the cluster lacks."""
    for op, placed in zip(partition.graph.operators, partition.placed):
        highest = int(placed.grid.devices.max())
        if highest >= cluster.num_devices:
            raise PlanError(
                f"{op.name}: device {highest} is out of range; the cluster has devices 0 to "
                f"{cluster.num_devices - 1}; use fewer devices or a larger cluster"
            )

"""Apply a plan's stages and splits: every operator's roles on the mesh of its stage."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from superscaler.errors import PlanError
from superscaler.graph.axis import Axes
from superscaler.graph.graph import Graph
from superscaler.graph.operator import Operator, Phase
from superscaler.graph.tensor import TensorKind
from superscaler.ops.copies import TO_DEVICE
from superscaler.plan import Plan, PlanSplit
from superscaler.transform.partition import REPLICATE, VALUE, Grid, Partition, Placed
from superscaler.transform.select import find_axes, matches
from superscaler.transform.split_backward import split_backward
from superscaler.transform.stages import assign_stages
from superscaler.transform.tensor_parallel import tensor_parallel_axes, token_axes

MICROBATCH = "mb"


@dataclass(frozen=True)
class Rank:
    """How a mesh dim treats one axis: lower `order` wins, `where` and `uneven` as in PlanSplit."""

    order: int
    where: tuple[str, ...]
    uneven: bool


SplitTable = dict[str, dict[int, Rank]]  # mesh dim -> axis -> rank


def apply_plan(graph: Graph, axes: Axes, plan: Plan) -> Partition:
    """The partition that the plan's stages, splits and optimizer entry describe."""
    work = _Work(
        graph, axes, plan, split_table(graph, axes, plan), assign_stages(graph, axes, plan)
    )
    placed: list[Placed] = []
    for op in graph.operators:
        work.placed = placed
        placed.append(work.place(op))
    if plan.splits_backward:
        placed = split_backward(graph, placed)
    return Partition(graph, axes, tuple(placed))


def split_table(graph: Graph, axes: Axes, plan: Plan) -> SplitTable:
    """Which axes each mesh dim splits. Raises PlanError for axes that do not exist or divide."""
    sizes: dict[str, set[int]] = {MICROBATCH: {plan.microbatches}}
    for stage in plan.stages:
        for name, size in stage.mesh.items():
            sizes.setdefault(name, set()).add(size)
    table: SplitTable = {name: {} for name in sizes}
    entries = plan.splits
    if plan.microbatches > 1 and not any(s.dim == MICROBATCH for s in entries):
        entries = (PlanSplit("batch", MICROBATCH), *entries)
    for order, split in enumerate(entries):
        if split.dim not in table:
            raise PlanError(
                f"split {split.axis} on {split.dim!r}: no stage has such a mesh dim; "
                f"found {', '.join(sorted(table))}"
            )
        parts = max(sizes[split.dim])
        for number, axis in enumerate(_axes_of(graph, axes, split, parts, table)):
            table[split.dim].setdefault(
                axis, Rank(order * 100_000 + number, split.where, split.uneven)
            )
    _check_batch(axes, table, sizes)
    return table


def _axes_of(
    graph: Graph, axes: Axes, split: PlanSplit, parts: int, table: SplitTable
) -> list[int]:
    if split.axis == "auto":
        return tensor_parallel_axes(graph, axes, parts)
    if split.axis == "sequence":
        found = token_axes(graph, axes, set(table[split.dim]))
        return [a for a in found if axes.axes[a].size % parts == 0]
    chosen = []
    for spot in find_axes(graph, axes, split.axis):
        fits = [a for a in spot if axes.axes[a].size % parts == 0]
        if not fits and split.uneven:
            fits = [a for a in spot if axes.axes[a].size >= parts]
        if not fits:
            sizes = " x ".join(str(axes.axes[a].size) for a in spot)
            raise PlanError(
                indivisible(
                    f"split {split.axis} on {split.dim} by {parts}",
                    axes.axes[spot[0]].name,
                    sizes,
                    axes.axes[spot[0]].size,
                    parts,
                )
            )
        chosen.append(fits[0])
    return list(dict.fromkeys(chosen))


def indivisible(what: str, axis: str, shown: str, size: int, parts: int) -> str:
    """The error of a split that does not come out even, with what would."""
    divisors = [str(n) for n in range(2, size + 1) if size % n == 0][:6]
    way = f"use {', '.join(divisors)}" if divisors else "it cannot be split"
    return (
        f"{what}: axis {axis} has {shown} elements, not divisible by {parts}; {way}, "
        "or allow uneven parts"
    )


def _check_batch(axes: Axes, table: SplitTable, sizes: dict[str, set[int]]) -> None:
    """Splits of one axis on several mesh dims must divide it together."""
    total: dict[int, list[str]] = {}
    for dim, entries in table.items():
        for axis, rank in entries.items():
            if not rank.uneven and not rank.where:
                total.setdefault(axis, []).append(dim)
    for axis, dims in total.items():
        parts = 1
        for dim in dims:
            parts *= max(sizes[dim])
        size = axes.axes[axis].size
        if len(dims) > 1 and size % parts and axes.axes[axis].name == "batch":
            what = f"split batch on {' and '.join(dims)} by {parts}"
            raise PlanError(indivisible(what, "batch", str(size), size, parts))


@dataclass
class _Work:
    graph: Graph
    axes: Axes
    plan: Plan
    table: SplitTable
    stage: list[int]
    placed: list[Placed] = field(default_factory=list)
    grids: dict[tuple[int, bool], Grid] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.resting: dict[int, dict[str, int]] = {}
        for update in self.graph.updates:
            self.resting[update.param] = self._resting_slots(update.operator)
        self.sharded = self._sharded_gradients()
        self.from_params: set[int] = {t.id for t in self.graph.of_kind(TensorKind.PARAM)}

    def grid(self, stage: int, timed: bool) -> Grid:
        """The devices of a stage, with the microbatch dim in front or not."""
        if (stage, timed) not in self.grids:
            entry = self.plan.stages[stage]
            names = tuple(entry.mesh) or ("all",)
            shape = tuple(entry.mesh.values()) or (len(entry.devices),)
            devices = np.array(entry.devices, dtype=np.int64).reshape(shape)
            if timed:
                devices = np.broadcast_to(devices, (self.plan.microbatches, *shape)).copy()
                names = (MICROBATCH, *names)
            self.grids[stage, timed] = Grid(devices, names)
        return self.grids[stage, timed]

    def place(self, op: Operator) -> Placed:
        stage = self.stage[op.id]
        if op.phase is Phase.UPDATE:
            return self.update(op, stage)
        if op.inputs and all(t in self.from_params for t in op.inputs):
            self.from_params.update(op.outputs)
            return self.param_only(op, stage)
        micro = self.plan.microbatches > 1
        if micro:
            timed = self.roles(op, self.grid(stage, True))
            if timed[0] >= 0:
                return Placed(self.grid(stage, True), timed, self.label(op, stage, True))
            view = self.partial_view(op, stage, timed)
            if view is not None:
                return view
        grid = self.grid(stage, False)
        roles = self.with_shards(op, grid, self.roles(op, grid))
        return Placed(grid, roles, self.label(op, stage, not micro))

    def label(self, op: Operator, stage: int, timed: bool) -> str:
        """Which task of its stage an operator runs in."""
        if not timed:
            return f"shared_{stage}"
        return f"{op.phase.value}_{stage}"

    def roles(self, op: Operator, grid: Grid) -> tuple[int, ...]:
        """What each grid dim does to the operator: the best axis it has of the dim's."""
        iters = self.axes.operators[op.id].iters
        left = [it.size for it in iters]
        roles = []
        for name, count in zip(grid.names, grid.shape):
            best: tuple[tuple[int, int, int, int], int] | None = None
            table = self.table.get(name, {})
            for k, it in enumerate(iters):
                rank = table.get(it.axis)
                if rank is None or it.frozen or not _fits(left[k], count, rank.uneven):
                    continue
                if rank.where and not any(matches(op.module, p) for p in rank.where):
                    continue
                key = (rank.order, it.cost, int(it.reduce is not None), k)
                if best is None or key < best[0]:
                    best = (key, k)
            if best is None or count == 1:
                roles.append(REPLICATE)
            else:
                roles.append(best[1])
                left[best[1]] //= count
        return tuple(roles)

    def partial_view(self, op: Operator, stage: int, timed: tuple[int, ...]) -> Placed | None:
        """A view of a value summed over microbatches moves before the sum: it costs nothing."""
        own = self.axes.operators[op.id]
        if not own.rule.is_view or len(op.inputs) != 1 or op.inputs[0] not in self.graph.producer:
            return None
        maker, k = self.graph.producer[op.inputs[0]]
        before = self.placed[maker]
        if before.grid is not self.grid(stage, True) or not self.is_sum(maker, k, before.roles[0]):
            return None
        roles = (VALUE, *timed[1:])
        return Placed(before.grid, roles, self.label(op, stage, True), frozenset((0,)))

    def is_sum(self, op: int, k: int, role: int) -> bool:
        """Whether output k holds partial sums along a grid dim of this role."""
        own = self.axes.operators[op]
        if role == VALUE:
            return True
        return role >= 0 and role not in own.outputs[k] and own.iters[role].reduce == "sum"

    # gradients on their way to sharded updates

    def _sharded_gradients(self) -> dict[int, dict[str, int]]:
        """Gradients that a sharded update reads through element-wise operators: dim -> slot."""
        found: dict[int, dict[str, int]] = {}
        for update in self.graph.updates:
            shards = self.resting[update.param]
            tensor: int | None = update.grad if shards else None
            while tensor is not None and tensor not in found:
                found[tensor] = shards
                tensor = self._same_slots_before(tensor)
        return found

    def _same_slots_before(self, tensor: int) -> int | None:
        """The one input that the tensor's operator maps, element by element, to it."""
        if tensor not in self.graph.producer:
            return None
        op, k = self.graph.producer[tensor]
        own = self.axes.operators[op]
        if any(it.reduce for it in own.iters):
            return None
        same = [i for i, covers in enumerate(own.inputs) if covers == own.outputs[k] and covers]
        return self.graph.operators[op].inputs[same[0]] if len(same) == 1 else None

    def with_shards(self, op: Operator, grid: Grid, roles: tuple[int, ...]) -> tuple[int, ...]:
        """Work on gradients (clipping, say) is done by the rank that updates that shard."""
        own = self.axes.operators[op.id]
        if own.rule.is_view or op.phase is not Phase.BACKWARD:
            return roles
        new = list(roles)
        for i, tensor in enumerate(op.inputs):
            for name, slot in self.sharded.get(tensor, {}).items():
                k = own.inputs[i][slot]
                d = grid.names.index(name) if name in grid.names else -1
                if (
                    d < 0
                    or k < 0
                    or own.iters[k].frozen
                    or new[d] not in (REPLICATE, k)
                    or k in new[:d]
                ):
                    continue
                new[d] = k
                for out, covers in zip(op.outputs, own.outputs):
                    if k in covers:
                        self.sharded.setdefault(out, {name: covers.index(k)})
        return tuple(new)

    # parameters

    def _resting_slots(self, update: int) -> dict[str, int]:
        """Mesh dim -> slot of the parameter that the optimizer's shards split."""
        name = self.plan.optimizer.split
        mesh = self.plan.stages[self.stage[update]].mesh
        if not name or mesh.get(name, 1) == 1:
            return {}
        tensor = self.graph.operators[update].inputs[0]
        left = list(self.axes.sizes(tensor))
        for other, count in mesh.items():
            for slot, axis in enumerate(self.axes.slots[tensor]):
                if other != name and axis in self.table.get(other, {}) and left[slot] % count == 0:
                    left[slot] //= count
                    break
        fits = [s for s, size in enumerate(left) if size % mesh[name] == 0]
        return {name: fits[0]} if fits else {}

    def update(self, op: Operator, stage: int) -> Placed:
        grid = self.grid(stage, False)
        roles = list(self.roles(op, grid))
        covers = self.axes.operators[op.id].inputs[0]
        for dim, slot in self.resting.get(op.inputs[0], {}).items():
            roles[grid.names.index(dim)] = covers[slot]
        optimizer = self.plan.optimizer
        return Placed(
            grid, tuple(roles), f"update_{stage}", gather=optimizer.gather, reduce=optimizer.reduce
        )

    def param_only(self, op: Operator, stage: int) -> Placed:
        """A cast of parameters runs where they rest; views and copies run with their readers."""
        gather = self.plan.optimizer.gather
        own = self.axes.operators[op.id]
        follows = own.rule.is_view or op.target == TO_DEVICE
        timed = self.plan.microbatches > 1 and follows
        grid = self.grid(stage, timed)
        roles = list(self.roles(op, grid))
        for dim, slot in self.resting.get(op.inputs[0], {}).items():
            k = own.inputs[0][slot]
            if own.rule.is_view:
                continue  # gather first: the gathers of views could not share a message
            if k >= 0 and not own.iters[k].frozen and len(op.inputs) == 1:
                roles[grid.names.index(dim)] = k
                covered = [s for s, it in enumerate(own.outputs[0]) if it == k]
                if covered:
                    self.resting[op.outputs[0]] = {dim: covered[0]}
        return Placed(
            grid,
            tuple(roles),
            self.label(op, stage, timed or self.plan.microbatches == 1),
            gather=gather,
        )


def _fits(size: int, count: int, uneven: bool) -> bool:
    return size % count == 0 if not uneven else size >= count

"""Apply a plan's stages and splits: every operator's roles on the mesh of its stage."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from superscaler.errors import PlanError
from superscaler.graph.axis import Axes
from superscaler.graph.graph import Graph
from superscaler.graph.operator import Operator, Phase
from superscaler.graph.tensor import TensorKind
from superscaler.plan import Plan, PlanSplit
from superscaler.transform.effect import PLACES, Rank, SplitTable, check_effect, split_entries
from superscaler.transform.parameters import follows, of_parameters
from superscaler.transform.partial import shrinks
from superscaler.transform.partition import MICROBATCH, REPLICATE, VALUE, Grid, Partition, Placed
from superscaler.transform.select import check_modules, matches
from superscaler.transform.shards import check_shards
from superscaler.transform.split_axes import axes_of, comes_out, indivisible, taken_apart
from superscaler.transform.split_backward import split_backward
from superscaler.transform.stages import assign_stages

FIXED = (TensorKind.PARAM, TensorKind.BUFFER)  # what does not depend on the batch
SHARED = "shared_"  # labels of what runs once, for all microbatches
SPREAD = 4  # times the bytes of the parameters that an operator reads


def apply_plan(graph: Graph, axes: Axes, plan: Plan) -> Partition:
    """The partition that the plan's stages, splits and optimizer entry describe."""
    check_shards(plan)
    work = _Work(
        graph, axes, plan, split_table(graph, axes, plan), assign_stages(graph, axes, plan)
    )
    placed: list[Placed] = []
    for op in graph.operators:
        work.placed = placed
        placed.append(work.place(op))
    placed = work.with_readers(placed)
    notes = check_effect(graph, axes, plan, work.table, placed)
    if plan.splits_backward:
        placed = split_backward(graph, placed)
    return Partition(graph, axes, tuple(placed), notes=notes)


def split_table(graph: Graph, axes: Axes, plan: Plan) -> SplitTable:
    """Which axes each mesh dim splits. Raises PlanError for axes that do not exist or divide."""
    sizes: dict[str, set[int]] = {MICROBATCH: {plan.microbatches}}
    for stage in plan.stages:
        for name, size in stage.mesh.items():
            sizes.setdefault(name, set()).add(size)
    _add_cuts(sizes, plan)
    table: SplitTable = {name: {} for name in sizes}
    for order, split in split_entries(plan):
        if split.dim not in table:
            raise PlanError(
                f"split {split.axis} on {split.dim!r}: no stage has such a mesh dim; "
                f"found {', '.join(sorted(table))}"
            )
        check_modules(graph, split.where, f"split {split.axis} on {split.dim}, where")
        parts = max(sizes[split.dim])
        own = table[split.dim]
        for number, axis in enumerate(axes_of(graph, axes, split, parts, tuple(own))):
            own[axis] = _ranked(own.get(axis), split, order * PLACES + number)
    _check_batch(graph, axes, table, sizes)
    return table


def _ranked(before: Rank | None, split: PlanSplit, order: int) -> Rank:
    """An axis's rank with one more split of it: the first one's place, the modules of both."""
    if before is None:
        return Rank(order, split.where, split.uneven)
    where = (*before.where, *split.where) if before.where and split.where else ()
    return Rank(before.order, where, before.uneven or split.uneven)


def _add_cuts(sizes: dict[str, set[int]], plan: Plan) -> None:
    """The splits in time. Raises PlanError where one has the name of a mesh dim, or two numbers of
    parts."""
    meshes = set(sizes)
    for split in plan.splits:
        if not split.parts:
            continue
        if split.dim in meshes:
            raise PlanError(
                f"split {split.axis} on {split.dim!r}: {split.dim} is a mesh dim, which gives the "
                "number of parts; leave parts out to split in space, or use another name"
            )
        found = sizes.setdefault(split.dim, {split.parts})
        if found != {split.parts}:
            raise PlanError(
                f"split {split.axis} on {split.dim!r}: expected {min(found)} parts, as the other "
                f"splits of that name have, found {split.parts}; use another name"
            )


def _check_batch(graph: Graph, axes: Axes, table: SplitTable, sizes: dict[str, set[int]]) -> None:
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
            found = indivisible(what, "batch", str(size), size, parts)
            raise PlanError(found + taken_apart(graph, axes, axis))


@dataclass
class _Work:
    graph: Graph
    axes: Axes
    plan: Plan
    table: SplitTable
    stage: list[int]
    placed: list[Placed] = field(default_factory=list)
    grids: dict[tuple[int, bool, tuple[str, ...]], Grid] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.cuts = {s.dim: s.parts for s in self.plan.splits if s.parts}
        self.resting: dict[int, dict[str, int]] = {}
        for update in self.graph.updates:
            self.resting[update.param] = self._resting_slots(update.operator)
        self.sharded = self._sharded_gradients()
        self.fixed = {t.id for t in self.graph.tensors if t.kind in FIXED}
        self.spread: set[int] = set()
        self.alone = of_parameters(self.graph)

    def grid(self, stage: int, timed: bool, cuts: tuple[str, ...] = ()) -> Grid:
        """The devices of a stage: with the microbatch dim in front or not, and with the named
        splits in time behind, so that they cut what the mesh leaves to a device."""
        if (stage, timed, cuts) not in self.grids:
            entry = self.plan.stages[stage % len(self.plan.stages)]
            names = tuple(entry.mesh) or ("all",)
            shape = tuple(entry.mesh.values()) or (len(entry.devices),)
            devices = np.array(entry.devices, dtype=np.int64).reshape(shape)
            if timed:
                devices = np.broadcast_to(devices, (self.plan.microbatches, *shape)).copy()
                names = (MICROBATCH, *names)
            for name in cuts:
                devices = np.repeat(devices[..., None], self.cuts[name], axis=-1)
            self.grids[stage, timed, cuts] = Grid(devices, (*names, *cuts))
        return self.grids[stage, timed, cuts]

    def split(self, op: Operator, stage: int, timed: bool) -> tuple[Grid, tuple[int, ...]]:
        """The operator's grid and roles, with those splits in time that it has an axis for."""
        whole = self.grid(stage, timed, tuple(self.cuts))
        roles = self.roles(op, whole)
        cuts = tuple(n for n, r in zip(whole.names, roles) if n in self.cuts and r >= 0)
        kept = tuple(r for n, r in zip(whole.names, roles) if n not in self.cuts or n in cuts)
        return self.grid(stage, timed, cuts), kept

    def place(self, op: Operator) -> Placed:
        stage = self.stage[op.id]
        if op.phase is Phase.UPDATE:
            return self.update(op, stage)
        if all(t in self.fixed for t in op.inputs):
            self.fixed.update(op.outputs)
        if op.id in self.alone:
            return self.param_only(op, stage, follows(self.axes, op))
        micro = self.plan.microbatches > 1
        if micro:
            grid, roles = self.split(op, stage, True)
            if roles[0] >= 0:
                return Placed(grid, roles, self.label(op, stage, True))
            if self.is_spread(op):
                return Placed(grid, roles, self.label(op, stage, True))
            partial = self.partial_linear(op, stage)
            if partial is not None:
                return partial
        grid, roles = self.split(op, stage, False)
        sharded = self.with_shards(op, grid, roles)
        reduce = "step" if sharded == roles else self.plan.optimizer.reduce
        return Placed(grid, sharded, self.label(op, stage, not micro), reduce=reduce)

    def label(self, op: Operator, stage: int, timed: bool) -> str:
        """Which task of its stage an operator runs in."""
        if not timed:
            return f"{SHARED}{stage}"
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
                if rank is None or it.frozen or not comes_out(left[k], count, rank.uneven):
                    continue
                if it.single and count != left[k]:
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

    def is_spread(self, op: Operator) -> bool:
        """Whether an operator makes much more of parameters than they are (a bias of
        each position from a table), or works on such a value and nothing of the batch: each
        microbatch makes it again, rather than keep it."""
        if not all(t in self.fixed for t in op.inputs):
            return False
        read = sum(self.graph.tensors[t].num_bytes for t in op.inputs if self.is_of_params(t))
        made = sum(self.graph.tensors[t].num_bytes for t in op.outputs if t >= 0)
        if made >= SPREAD * read > 0 or not self.spread.isdisjoint(op.inputs):
            self.spread.update(op.outputs)
            return True
        return False

    def partial_linear(self, op: Operator, stage: int) -> Placed | None:
        """What is linear in a value summed over microbatches, and makes fewer bytes of it in the
        end, moves before the sum, as views do: those cost nothing."""
        grid, roles = self.split(op, stage, True)
        for i, tensor in enumerate(op.inputs):
            if tensor not in self.graph.producer or not self.is_linear(op, i):
                continue
            maker, k = self.graph.producer[tensor]
            before = self.placed[maker]
            if before.grid is grid and self.is_sum(maker, k, before.roles[0]):
                label = self.label(op, stage, True)
                return Placed(grid, (VALUE, *roles[1:]), label, frozenset((i,)))
        return None

    def is_linear(self, op: Operator, position: int) -> bool:
        """Whether an operator is linear in one input, and it, or the linear operators that alone
        read it in turn, make fewer bytes of it."""
        if self.axes.operators[op.id].rule.is_view:
            return len(op.inputs) == 1
        bound = self.graph.tensors[op.inputs[position]].num_bytes
        return shrinks(self.graph, self.axes, op.id, position, bound)

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
        """Mesh dim -> slot of the parameter that the optimizer's shards split: rather one that is
        whole otherwise, so that one all-gather puts them together."""
        name = self.plan.optimizer.split
        mesh = self.plan.stages[self.stage[update] % len(self.plan.stages)].mesh
        if not name or mesh.get(name, 1) == 1:
            return {}
        tensor = self.graph.operators[update].inputs[0]
        left = list(self.axes.sizes(tensor))
        for other, count in mesh.items():
            for slot, axis in enumerate(self.axes.slots[tensor]):
                if other != name and axis in self.table.get(other, {}) and left[slot] % count == 0:
                    left[slot] //= count
                    break
        whole = self.axes.sizes(tensor)
        fits = [s for s, size in enumerate(left) if size % mesh[name] == 0]
        return {name: min(fits, key=lambda s: left[s] != whole[s])} if fits else {}

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

    def with_readers(self, placed: list[Placed]) -> list[Placed]:
        """Views of parameters run once where a reader does, which could wait for the microbatch
        that it is for; the others at each microbatch."""
        found = list(placed)
        for op in reversed(self.graph.operators):
            if found[op.id].grid.names[0] != MICROBATCH or op.id not in self.alone:
                continue
            readers = {r for t in op.outputs for r, _ in self.graph.consumers.get(t, ())}
            if any(found[r].label.startswith(SHARED) for r in readers):
                found[op.id] = self.param_only(op, self.stage[op.id], False)
        return found

    def is_of_params(self, tensor: int) -> bool:
        """Whether a tensor is a parameter, or made of parameters alone."""
        maker = self.graph.producer.get(tensor, (-1, 0))[0]
        return maker in self.alone or self.graph.tensors[tensor].kind is TensorKind.PARAM

    def param_only(self, op: Operator, stage: int, follows: bool) -> Placed:
        """A cast of parameters runs where they rest; what `follows`, at each microbatch."""
        gather = self.plan.optimizer.gather
        own = self.axes.operators[op.id]
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

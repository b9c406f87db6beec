"""Partial values: linear operators work on partial sums, which are reduced once, and late."""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import replace

from superscaler.graph.axis import Axes
from superscaler.graph.graph import Graph
from superscaler.graph.operator import Operator
from superscaler.ops.flops import is_product
from superscaler.transform.partition import REPLICATE, VALUE, Partition, Placed


def propagate_partial(partition: Partition) -> Partition:
    """Let linear operators take partial sums as they are, whether replicated or split.

    Along one grid dim an operator can, if the inputs of one of its linear sets, except for zeros,
    and no others are partial sums. A tensor stays partial only if all its readers can: else it is
    reduced once, for all of them.
    """
    work = _Work(partition)
    while work.sweep():
        pass
    return partition.with_placed(work.result())


def adds_up(graph: Graph, axes: Axes, op: int, partial: Set[int]) -> bool:
    """Whether an operator's results on partial values of these inputs add up to that on their
    sums: the other inputs of a linear set are zeros."""
    zeros = {i for i, t in enumerate(graph.operators[op].inputs) if _is_zero(graph, t)}
    return any(partial <= s <= partial | zeros for s in axes.operators[op].rule.linear)


def shrinks(
    graph: Graph,
    axes: Axes,
    op: int,
    position: int,
    bound: int,
    may: Callable[[Operator], bool] = lambda op: True,
) -> bool:
    """Whether an operator is linear in one input, and it, or the linear operators that alone read
    it in turn, make fewer bytes than `bound`; each of these `may` be placed so."""
    at: tuple[int, int] | None = (op, position)
    while at is not None:
        reader = graph.operators[at[0]]
        if len(reader.outputs) != 1 or not adds_up(graph, axes, at[0], {at[1]}):
            return False
        if not may(reader):
            return False
        if graph.tensors[reader.outputs[0]].num_bytes < bound:
            return True
        at = _only_reader(graph, reader.outputs[0])
    return False


def _only_reader(graph: Graph, tensor: int) -> tuple[int, int] | None:
    readers = graph.consumers.get(tensor, ())
    return readers[0] if len(readers) == 1 and tensor not in graph.results else None


def _is_zero(graph: Graph, tensor: int) -> bool:
    """Whether a tensor was made as zeros."""
    if tensor not in graph.producer:
        return False
    maker = graph.operators[graph.producer[tensor][0]]
    return maker.target.startswith("aten.full") and maker.args[1:2] == (0,)


class _Work:
    def __init__(self, partition: Partition) -> None:
        self.partition = partition
        self.graph = partition.graph
        self.axes = partition.axes
        self.refused: set[tuple[int, int]] = set()  # (operator, grid dim) that must not
        self.chosen: dict[tuple[int, int], frozenset[int]] = {}
        self.final = set(self.graph.results)

    def sweep(self) -> bool:
        """One optimistic forward pass, then refuse what a tensor's other readers forbid."""
        self.chosen = {}
        for op in self.graph.operators:
            placed = self.partition.placed[op.id]
            for dim, role in enumerate(placed.roles):
                if (
                    role != VALUE
                    and placed.grid.shape[dim] > 1
                    and (op.id, dim) not in self.refused
                ):
                    inputs = self._linear_inputs(op.id, dim)
                    if inputs:
                        self.chosen[op.id, dim] = inputs
        bad = {key for key, inputs in self.chosen.items() if not self._readers_agree(*key, inputs)}
        self.refused |= bad
        return bool(bad)

    def _linear_inputs(self, op: int, dim: int) -> frozenset[int]:
        operator = self.graph.operators[op]
        if not self._is_worth(op, dim):
            return frozenset()
        partial = frozenset(
            i for i, t in enumerate(operator.inputs) if self._is_partial(t, op, dim)
        )
        if not partial:
            return partial
        earlier = self.partition.placed[op].linear
        if earlier and earlier != partial:
            return frozenset()
        others = [self.chosen[op, d] for d in range(dim) if (op, d) in self.chosen]
        if any(o != partial for o in others):
            return frozenset()
        return partial if adds_up(self.graph, self.axes, op, partial) else frozenset()

    def _is_worth(self, op: int, dim: int) -> bool:
        """Whether reducing after the operator, or after those that alone read it in turn, moves no
        more bytes than reducing before it; those in turn are not split along `dim`, as each part
        would do the work of all."""
        operator = self.graph.operators[op]
        is_view = self.axes.operators[op].rule.is_view
        if is_product(operator) or (len(operator.outputs) > 1 and not is_view):
            return False
        largest = max((self.graph.tensors[t].num_bytes for t in operator.inputs), default=0)
        made = [t for t in operator.outputs if t >= 0]
        if max(self.graph.tensors[t].num_bytes for t in made) <= largest:
            return True
        reader = _only_reader(self.graph, made[0]) if len(made) == 1 else None
        grid = self.partition.placed[op].grid

        def is_alike(other: Operator) -> bool:
            placed = self.partition.placed[other.id]
            same = placed.grid.key == grid.key and placed.roles[dim] in (REPLICATE, VALUE)
            return same and not is_product(other)

        return (
            reader is not None
            and is_alike(operator)
            and shrinks(self.graph, self.axes, *reader, largest, is_alike)
        )

    def _is_partial(self, tensor: int, reader: int, dim: int) -> bool:
        """Whether the tensor's producer, on the reader's grid, leaves partial sums along `dim`."""
        if tensor not in self.graph.producer:
            return False
        maker, k = self.graph.producer[tensor]
        placed = self.partition.placed[maker]
        if placed.grid.key != self.partition.placed[reader].grid.key:
            return False
        if (maker, dim) in self.chosen:
            return True
        role, own = placed.roles[dim], self.axes.operators[maker]
        if role == VALUE:
            return True
        return role >= 0 and role not in own.outputs[k] and own.iters[role].reduce == "sum"

    def _readers_agree(self, op: int, dim: int, inputs: frozenset[int]) -> bool:
        """Whether every reader of the operator's partial inputs takes them as they are."""
        for i in inputs:
            tensor = self.graph.operators[op].inputs[i]
            if tensor in self.final:
                return False
            for reader, position in self.graph.consumers[tensor]:
                placed = self.partition.placed[reader]
                own_value = placed.roles[dim] == VALUE if dim < len(placed.roles) else False
                if position not in self.chosen.get((reader, dim), ()) and not own_value:
                    return False
        return True

    def result(self) -> tuple[Placed, ...]:
        placed = list(self.partition.placed)
        for (op, dim), inputs in self.chosen.items():
            roles = list(placed[op].roles)
            roles[dim] = VALUE
            placed[op] = replace(placed[op], roles=tuple(roles), linear=inputs)
        return tuple(placed)

"""Axis inference: unify what the operators' rules say about the dims of the tensors they share."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from superscaler.graph.axis import FROZEN_SLOT, Axes, Axis, Iter, OperatorAxes, Stripe
from superscaler.graph.graph import Graph
from superscaler.graph.operator import Operator
from superscaler.graph.tensor import TensorKind
from superscaler.ops import Operands, Rule, rule_for
from superscaler.trace.batch_axis import batch_axis


class AxisClasses:
    """Union-find over extents; a class may be refined into a (major, minor) pair of classes."""

    def __init__(self) -> None:
        self.parent: list[int] = []
        self.size: list[int] = []
        self.refined: list[tuple[int, int] | None] = []

    def new(self, size: int) -> int:
        self.parent.append(len(self.parent))
        self.size.append(size)
        self.refined.append(None)
        return len(self.parent) - 1

    def find(self, node: int) -> int:
        root = node
        while self.parent[root] != root:
            root = self.parent[root]
        while self.parent[node] != root:
            self.parent[node], node = root, self.parent[node]
        return root

    def leaves(self, nodes: Iterable[int]) -> list[int]:
        """The atomic classes that `nodes` are made of, major to minor."""
        found: list[int] = []
        stack = list(nodes)[::-1]
        while stack:
            root = self.find(stack.pop())
            pair = self.refined[root]
            if pair is None:
                found.append(root)
            else:
                stack += (pair[1], pair[0])
        return found

    def refine(self, root: int, major: int) -> tuple[int, int]:
        pair = (self.new(major), self.new(self.size[root] // major))
        self.refined[root] = pair
        return pair

    def unify(self, left: Iterable[int], right: Iterable[int]) -> bool:
        """Make two factor lists of one extent equal, refining where needed; False if impossible."""
        a, b = deque(self.leaves(left)), deque(self.leaves(right))
        while a and b:
            x, y = self._pop(a), self._pop(b)
            if x == y:
                continue
            if self.size[x] == self.size[y]:
                self.parent[max(x, y)] = min(x, y)
            elif self.size[x] > self.size[y] and self.size[x] % self.size[y] == 0:
                a.extendleft(self.refine(x, self.size[y])[::-1])
                b.appendleft(y)
            elif self.size[y] > self.size[x] and self.size[y] % self.size[x] == 0:
                b.extendleft(self.refine(y, self.size[x])[::-1])
                a.appendleft(x)
            else:
                return False
        return not a and not b

    def _pop(self, factors: deque[int]) -> int:
        """The next atomic class of `factors`, refined since or not."""
        leaves = self.leaves((factors.popleft(),))
        factors.extendleft(leaves[:0:-1])
        return leaves[0]


def infer_axes(graph: Graph, stripes: tuple[Stripe, ...] = ()) -> Axes:
    """The axes of `graph`: one class per set of dims that operators' rules tie together.

    `stripes` cut the axes at these slots in two, the minor one of the size given.
    """
    classes = AxisClasses()
    dims = [[[classes.new(n)] if n != 1 else [] for n in t.shape] for t in graph.tensors]
    rules = _rules(graph)
    local_nodes = []
    for op, (rule, _) in zip(graph.operators, rules):
        nodes = {name: classes.new(axis.size) for name, axis in rule.axes.items()}
        local_nodes.append(nodes)
        for tensor, operand in _operands(op, rule):
            for own, names in zip(dims[tensor], operand):
                classes.unify(own, [nodes[n] for n in names])
    _unify_twins(graph, classes, dims)
    for root, minor in _striped(classes, dims, stripes).items():
        classes.refine(root, classes.size[root] // minor)
    return replace(_collect(graph, classes, dims, rules, local_nodes), stripes=stripes)


def _striped(
    classes: AxisClasses, dims: list[list[list[int]]], stripes: tuple[Stripe, ...]
) -> dict[int, int]:
    """The classes to cut in two, and the size of the minor one."""
    return {
        classes.leaves(node for dim in dims[tensor] for node in dim)[slot]: minor
        for tensor, slot, minor in stripes
    }


def _unify_twins(graph: Graph, classes: AxisClasses, dims: list[list[list[int]]]) -> None:
    """A buffer and its value after the step have the same axes (as an update's operands do)."""
    for before, after in graph.buffers.items():
        for x, y in zip(dims[before], dims[after]):
            classes.unify(x, y)


def _operands(op: Operator, rule: Rule) -> Iterable[tuple[int, tuple[tuple[str, ...], ...]]]:
    yield from zip(op.inputs, rule.inputs)
    yield from zip(op.outputs, rule.outputs)


def _rules(graph: Graph) -> list[tuple[Rule, bool]]:
    """Every operator's rule; operators that look the same share one."""
    cache: dict[Any, tuple[Rule, bool]] = {}
    found = []
    for op in graph.operators:
        shapes = tuple(graph.tensors[t].shape for t in op.inputs)
        outs = tuple(graph.tensors[t].shape for t in op.outputs)
        key = (op.target, repr(op.args), repr(op.kwargs), shapes, outs)
        if key not in cache:
            cache[key] = rule_for(Operands(op.target, op.args, op.kwargs, shapes, outs))
        found.append(cache[key])
    return found


def _collect(
    graph: Graph,
    classes: AxisClasses,
    dims: list[list[list[int]]],
    rules: list[tuple[Rule, bool]],
    local_nodes: list[dict[str, int]],
) -> Axes:
    number: dict[int, int] = {}

    def axis_of(root: int) -> int:
        return number.setdefault(root, len(number))

    leaves = [[classes.leaves(dim) for dim in tensor] for tensor in dims]
    slots = tuple(tuple(axis_of(r) for dim in tensor for r in dim) for tensor in leaves)
    factors = tuple(tuple(len(dim) for dim in tensor) for tensor in leaves)
    cache: dict[Any, OperatorAxes] = {}
    operators = tuple(
        _operator_axes(op, rule, known, nodes, leaves, classes, axis_of)
        for op, (rule, known), nodes in zip(graph.operators, rules, local_nodes)
    )
    del cache
    sizes = {i: classes.size[root] for root, i in number.items()}
    names = _names(graph, slots, factors, batch_axis(graph, slots, factors, operators))
    axes = tuple(Axis(i, names.get(i, f"axis{i}"), sizes[i]) for i in range(len(number)))
    return Axes(axes, slots, factors, operators, {a.name: a.id for a in axes})


def _operator_axes(
    op: Operator,
    rule: Rule,
    has_rule: bool,
    nodes: dict[str, int],
    leaves: list[list[list[int]]],
    classes: AxisClasses,
    axis_of: Any,
) -> OperatorAxes:
    """The operator's axes in atoms; a dim whose factors could not be unified freezes them."""
    atoms = {name: classes.leaves((node,)) for name, node in nodes.items()}
    frozen = {name for name, axis in rule.axes.items() if axis.frozen}
    linked: list[list[bool]] = []
    for tensor, operand in _operands(op, rule):
        fits = [
            [a for n in names for a in atoms[n]] == own
            for own, names in zip(leaves[tensor], operand)
        ]
        linked.append(fits)
        frozen.update(n for ok, names in zip(fits, operand) if not ok for n in names)
    iters: list[Iter] = []
    first: dict[str, int] = {}
    for name, axis in rule.axes.items():
        first[name] = len(iters)
        for k, root in enumerate(atoms[name]):
            is_minor = axis.indexed and k > 0
            is_last = k == len(atoms[name]) - 1
            stuck = name in frozen or (is_minor and not (axis.strided and is_last))
            iters.append(
                Iter(
                    axis_of(root),
                    classes.size[root],
                    name,
                    k,
                    axis.reduce,
                    axis.indexed,
                    stuck,
                    axis.cost,
                    is_minor,
                )
            )
    operands = []
    for (tensor, operand), fits in zip(_operands(op, rule), linked):
        covered: list[int] = []
        for own, names, ok in zip(leaves[tensor], operand, fits):
            if ok:
                covered += (first[n] + k for n in names for k in range(len(atoms[n])))
            else:
                covered += [FROZEN_SLOT] * len(own)
        operands.append(tuple(covered))
    count = len(op.inputs)
    return OperatorAxes(
        tuple(iters), tuple(operands[:count]), tuple(operands[count:]), rule, has_rule
    )


def _names(
    graph: Graph,
    slots: tuple[tuple[int, ...], ...],
    factors: tuple[tuple[int, ...], ...],
    batch: int | None,
) -> dict[int, str]:
    """A name for each axis: the batch's first, then the first parameter dim it touches."""
    names: dict[int, str] = {}
    taken: set[str] = set()

    def give(axis: int, name: str) -> None:
        if axis not in names and name not in taken:
            names[axis] = name
            taken.add(name)

    def walk(tensor: int, label: Any) -> None:
        at = 0
        for d, count in enumerate(factors[tensor]):
            for k in range(count):
                spot = label(d) if count == 1 else f"{label(d)}.{k}"
                give(slots[tensor][at + k], spot)
            at += count

    leaves = [t for t in graph.batch if t >= 0]
    if batch is not None:
        give(batch, "batch")
    for t in leaves:
        walk(t, lambda d, name=graph.tensors[t].name: f"{name}:{d}")
    for kind in (TensorKind.PARAM, TensorKind.BUFFER, TensorKind.VALUE):
        for tensor in graph.of_kind(kind):
            walk(tensor.id, lambda d, name=tensor.name: f"{name}:{d}")
    return names

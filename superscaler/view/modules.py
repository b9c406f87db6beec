"""Modules: a partition's forward operators grouped by module, for a picture of a whole model.

A node is a module (`attention.query`), a column a block (`layers.3`) or what stands between blocks.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace

from superscaler.graph.axis import OperatorAxes
from superscaler.graph.operator import Operator, Phase
from superscaler.ops.flops import operator_flops
from superscaler.transform.partition import REPLICATE, VALUE, Partition, Placed
from superscaler.units import ranks_text

MOST_COLUMNS = 16  # beyond, neighbouring blocks that are alike become one column
MOST_NODES = 26  # in a column; beyond, blocks within it are columns of their own
_DEPTH = 2  # path components of a node's name, below its block


@dataclass(frozen=True)
class Node:
    """A module's forward operators: `split` says what every grid dim does to the heaviest one."""

    name: str
    stage: int  # -1: none
    split: tuple[tuple[str, int, str], ...]  # (grid dim's name, parts, "split" | "sum" | "copy")
    devices: str
    operators: tuple[int, ...]


@dataclass(frozen=True)
class Column:
    """A block: its path, its nodes in the order of the graph, and how many alike it stands for."""

    name: str
    nodes: tuple[Node, ...]
    count: int = 1


def columns_of(partition: Partition) -> tuple[Column, ...]:
    """The model's blocks in order, alike neighbours folded where there are too many."""
    columns = _columns(partition, 1)
    if any(len(c.nodes) > MOST_NODES for c in columns):
        columns = _columns(partition, 2)
    return columns if len(columns) <= MOST_COLUMNS else _folded(columns)


def edges_of(partition: Partition, columns: tuple[Column, ...]) -> tuple[tuple[int, int], ...]:
    """Data edges between nodes, numbered through all columns, without repeats or loops."""
    place = {op: n for n, node in enumerate(_nodes(columns)) for op in node.operators}
    producer = partition.graph.producer
    found = set()
    sources: dict[int, frozenset[int]] = {}  # of an operator: the nodes that its value comes from
    for op in partition.graph.operators:
        if op.phase is not Phase.FORWARD:
            continue
        makers = (sources.get(producer[t][0]) for t in op.inputs if t in producer)
        before = frozenset(n for nodes in makers if nodes for n in nodes)
        here = place.get(op.id)
        if here is not None:
            found |= {(there, here) for there in before if there != here}
        sources[op.id] = before if here is None else frozenset([here])
    return tuple(sorted(found))


def _nodes(columns: tuple[Column, ...]) -> list[Node]:
    return [node for column in columns for node in column.nodes]


def _columns(partition: Partition, numbers: int) -> tuple[Column, ...]:
    groups: dict[str, dict[str, list[int]]] = {}
    order: list[str] = []
    between = 0
    for op in partition.graph.operators:
        if op.phase is not Phase.FORWARD or not op.module:
            continue
        block, rest = _block(op.module, numbers)
        if not block and order and order[-1] and not order[-1].startswith("\0"):
            between += 1
        key = block or f"\0{between}"
        if key not in groups:
            order.append(key)
        name = ".".join(rest.split(".")[:_DEPTH]) or "own operators"
        groups.setdefault(key, {}).setdefault(name, []).append(op.id)
    return tuple(
        Column(
            "" if key.startswith("\0") else key,
            tuple(_node(partition, name, ops) for name, ops in groups[key].items()),
        )
        for key in order
    )


def _block(module: str, numbers: int) -> tuple[str, str]:
    """The path up to its first (or second) number, and the rest.

    >>> _block("model.layers.3.mlp.fc1", 1), _block("head", 1)
    (('model.layers.3', 'mlp.fc1'), ('', 'head'))
    """
    parts = module.split(".")
    found = [i for i, part in enumerate(parts) if part.isdigit()][:numbers]
    if not found:
        return "", module
    return ".".join(parts[: found[-1] + 1]), ".".join(parts[found[-1] + 1 :])


def _node(partition: Partition, name: str, ops: list[int]) -> Node:
    graph = partition.graph
    heaviest = max(ops, key=lambda op: (operator_flops(graph, graph.operators[op]), -op))
    placed = partition.placed[heaviest]
    devices = sorted({int(d) for op in ops for d in partition.placed[op].grid.devices.flat})
    stages = Counter(stage_of(partition.placed[op]) for op in ops)
    stage = min(stages, key=lambda s: (-stages[s], s))
    return Node(
        name, stage, split_of(placed, partition.axes_of(heaviest)), ranks_text(devices), tuple(ops)
    )


def stage_of(placed: Placed) -> int:
    """The stage in an operator's label (`forward_2`), -1 where it has none."""
    found = re.search(r"_(\d+)$", placed.label)
    return int(found.group(1)) if found else -1


def split_of(placed: Placed, own: OperatorAxes) -> tuple[tuple[str, int, str], ...]:
    """What each grid dim does to an operator: cut it, work on partial sums, or copy it."""
    return tuple(
        (name, size, _what(own, role))
        for name, size, role in zip(placed.grid.names, placed.grid.shape, placed.roles)
        if size > 1
    )


def _what(own: OperatorAxes, role: int) -> str:
    if role == REPLICATE:
        return "copy"
    is_sum = role == VALUE or all(role not in slots for slots in own.outputs)
    return "sum" if is_sum else "split"


def describe(partition: Partition, node: Node) -> list[str]:
    """A line for each operator of a node."""
    return [_line(partition.graph.operators[op]) for op in node.operators]


def _line(op: Operator) -> str:
    return f"{op.name}: {op.target}" + (f"  {op.source}" if op.source else "")


def _folded(columns: tuple[Column, ...]) -> tuple[Column, ...]:
    """Neighbours that differ in their number only, as one."""
    found: list[Column] = []
    first: list[str] = []
    for column in columns:
        if found and column.name and _look(found[-1]) == _look(column):
            last = found[-1]
            number = column.name.rpartition(".")[2]
            found[-1] = replace(last, name=f"{first[-1]}-{number}", count=last.count + 1)
        else:
            found.append(column)
            first.append(column.name)
    return tuple(found)


def _look(column: Column) -> object:
    parent = column.name.rpartition(".")[0]
    return (parent, [(n.name, n.stage, n.split, n.devices) for n in column.nodes])

"""Calls: an order of the forward in which several calls of one module run side by side.

A siamese network calls its encoder on one half of the batch after the other. In the order of the
program, a cut in the middle would put the first call on one stage and the second on the next; side
by side, each stage has its layers of both, and their parameters once.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import networkx as nx

from superscaler.graph.graph import Graph
from superscaler.graph.tensor import TensorKind


@dataclass(frozen=True)
class SideBySide:
    """Operators in an order, and pairs that share parameters: of the first and of a later call."""

    order: list[int]
    pairs: tuple[tuple[int, int], ...] = ()

    def between(self) -> set[int]:
        """The positions in the order where a cut would part a pair."""
        position = {op: i for i, op in enumerate(self.order)}
        spans = ((position[a], position[b]) for a, b in self.pairs)
        return {p for a, b in spans for p in range(min(a, b) + 1, max(a, b) + 1)}


def side_by_side(graph: Graph, forward: list[int]) -> SideBySide:
    """Forward operators, such that those of a module's later calls come with those of its first, as
    far as they do not wait for that one. Without such calls the order stays as it is."""
    position = {op: i for i, op in enumerate(forward)}
    first = _first_calls(graph, position)
    turn = _turns(graph, position, first)
    if turn == position:
        return SideBySide(forward)
    order = nx.DiGraph((op, r) for op in forward for r in _readers(graph, op, position))
    order.add_nodes_from(forward)
    found = nx.lexicographical_topological_sort(order, lambda op: (turn[op], position[op]))
    return SideBySide(list(found), tuple((f, op) for op, f in first.items()))


def _turns(graph: Graph, position: dict[int, int], first: dict[int, int]) -> dict[int, int]:
    """The position of each operator; of a later call, that of the same operator in the first one;
    and what an operator waits for comes as early as it does."""
    turn: dict[int, int] = {}
    for op in reversed(position):
        readers = [turn[r] for r in _readers(graph, op, position)]
        turn[op] = min([position[first.get(op, op)], *readers])
    return {op: turn[op] for op in position}


def _first_calls(graph: Graph, forward: Collection[int]) -> dict[int, int]:
    """Operators of later calls: of the same module as the first one, doing the same with the same
    parameters, and not waiting for it (as recycling does)."""
    again = _again(graph, forward)
    number = {op: i for i, op in enumerate(sorted(set(again.values())))}
    above: dict[int, int] = {}  # per operator: a bit for each first one that it is or waits for
    for op in forward:
        makers = {graph.producer[t][0] for t in graph.operators[op].inputs if t in graph.producer}
        above[op] = 1 << number[op] if op in number else 0
        for maker in makers:
            above[op] |= above.get(maker, 0)
    return {op: first for op, first in again.items() if not above[op] >> number[first] & 1}


def _again(graph: Graph, forward: Collection[int]) -> dict[int, int]:
    """Operators of data and parameters, but the first of the same module that does the same with
    the same parameters; with that one."""
    weights: dict[int, frozenset[int]] = {
        t.id: frozenset({t.id}) for t in graph.tensors if t.kind is TensorKind.PARAM
    }
    first: dict[tuple[str, str, frozenset[int]], int] = {}
    found = {}
    for op in forward:
        operator = graph.operators[op]
        inputs = [t for t in operator.inputs if t >= 0]
        read = frozenset().union(*(weights.get(t, frozenset()) for t in inputs))
        if read and all(t in weights for t in inputs):  # of parameters alone: parameters
            weights.update(dict.fromkeys(operator.outputs, read))
        elif read:
            same = first.setdefault((operator.module, operator.target, read), op)
            if same != op:
                found[op] = same
    return found


def _readers(graph: Graph, op: int, forward: Collection[int]) -> list[int]:
    outputs = graph.operators[op].outputs
    return [r for t in outputs for r, _ in graph.consumers.get(t, ()) if r in forward]

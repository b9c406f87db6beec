"""Crossings: literals for which of two works of one lane goes first, where nothing decides it.

A pass up the stages and a pass down meet on some lane; where one goes first on a lane, it does so
on all lanes before. CP-SAT has no such literals of its own for lanes of more than 60 works, and
proves in seconds with them what it does not in minutes without. (Release 9.15, parameter
`max_size_to_create_precedence_literals_in_disjunctive`, which knows nothing of other lanes.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations

import networkx as nx
from ortools.sat.python import cp_model

from superscaler.schedule.links import Links, reverse
from superscaler.schedule.problem import Problem

MOST = 30_000  # pairs; above it the literals cost more than they save
MOST_WORKS = 20_000  # what comes before each is a set of bits, of all works

Pair = tuple[int, int]  # works of one lane
Starts = tuple[cp_model.LinearExprT, cp_model.LinearExprT]


def crossings(problem: Problem, links: Links) -> list[Pair]:
    """Pairs of works on one lane whose order no link decides, and which edges bind to other lanes;
    none where there are more than MOST, or more than MOST_WORKS works."""
    if len(problem.works) > MOST_WORKS:
        return []
    before = _all_before(links)
    found: list[Pair] = []
    for on in problem.on_lane:
        across = [w for w in on if problem.works[w].duration and _is_across(problem, w)]
        found += [
            (a, b)
            for a, b in combinations(across, 2)
            if not before[b] >> a & 1 and not before[a] >> b & 1
        ]
        if len(found) > MOST:
            return []
    return found


def add_crossings(
    cp: cp_model.CpModel,
    problem: Problem,
    links: Links,
    pairs: Sequence[Pair],
    alike: Callable[[Pair], tuple[int, ...]],
    starts: Callable[[Pair], Starts],
) -> dict[tuple[int, ...], cp_model.IntVar]:
    """A literal for the pairs that are `alike`: true where the first goes first."""
    literals: dict[tuple[int, ...], cp_model.IntVar] = {}
    for pair in pairs:
        key = alike(pair)
        if key in literals:
            continue
        literals[key] = first = cp.new_bool_var(f"{key} in turn")
        (a, b), (start_a, start_b) = pair, starts(pair)
        cp.add(start_b >= start_a + problem.works[a].duration).only_enforce_if(first)
        cp.add(start_a >= start_b + problem.works[b].duration).only_enforce_if(first.negated())
    for one, other in sorted({(alike(p), alike(q)) for p, q in _implied(links, pairs)}):
        cp.add_implication(literals[one], literals[other])
    return literals


def _implied(links: Links, pairs: Sequence[Pair]) -> Iterator[tuple[Pair, Pair]]:
    """(pair, one that must be in turn if that is): what links put before its first, and after its
    second. Links alone say so, but slowly: a lane at a time."""
    back, known = reverse(links.after), set(pairs)
    for a, b in pairs:
        firsts = [a, *(w for w, _ in back[a])]
        seconds = [b, *(w for w, _ in links.after[b])]
        for p in firsts:
            for q in seconds:
                if (p, q) != (a, b) and (p, q) in known:
                    yield (a, b), (p, q)


def _is_across(problem: Problem, work: int) -> bool:
    """Whether an edge binds a work to one on no lane of its own."""
    lanes = set(problem.works[work].lanes)
    ends = [e.before for e in problem.incoming[work]] + [e.after for e in problem.outgoing[work]]
    return any(not lanes & set(problem.works[end].lanes) for end in ends)


def _all_before(links: Links) -> list[int]:
    """Per work a bit set of the works that come before it."""
    graph: nx.DiGraph[int] = nx.DiGraph()
    graph.add_nodes_from(range(len(links.after)))
    graph.add_edges_from((a, b) for a, waits in enumerate(links.after) for b, _ in waits)
    before = [0] * len(links.after)
    for a in nx.topological_sort(graph):
        for b in graph[a]:
            before[b] |= before[a] | 1 << a
    return before

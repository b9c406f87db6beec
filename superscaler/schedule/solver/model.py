"""Model: a scheduling problem as CP-SAT constraints."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from ortools.sat.python import cp_model

from superscaler.schedule.bound import heads_and_tails
from superscaler.schedule.classes import fifo_pairs
from superscaler.schedule.problem import Hold, Problem


@dataclass
class Model:
    """The CP-SAT model and its variables: a start per work, the length of the schedule."""

    cp: cp_model.CpModel
    start: list[cp_model.IntVar]
    length: cp_model.IntVar
    aliases: list[tuple[cp_model.IntVar, tuple[int, ...], bool]]  # variable, works, of their ends


def build_model(
    problem: Problem, hint: Sequence[int], length: int, bound: int, objective: str = "makespan"
) -> Model:
    """All constraints; `hint` (of this `length`) is the first solution and bounds all others."""
    cp = cp_model.CpModel()
    ends = [s + w.duration for s, w in zip(hint, problem.works)]
    horizon = length if objective == "makespan" else max(ends, default=0)
    model = Model(cp, _starts(cp, problem, horizon), cp.new_int_var(bound, length, "length"), [])
    _precedence(model, problem)
    sorted_pairs = fifo_pairs(problem)
    _first_in_first_out(model, sorted_pairs)
    _lanes(model, problem)
    _memory(model, problem, hint, horizon, sorted_pairs)
    _length(model, problem, objective)
    _hints(model, problem, hint, length)
    cp.minimize(model.length)
    return model


def _starts(cp: cp_model.CpModel, problem: Problem, horizon: int) -> list[cp_model.IntVar]:
    """head_i <= start_i <= horizon - duration_i - tail_i"""
    heads, tails = heads_and_tails(problem)
    return [
        cp.new_int_var(head, horizon - work.duration - tail, work.name)
        for work, head, tail in zip(problem.works, heads, tails)
    ]


def _precedence(model: Model, problem: Problem) -> None:
    """start_b >= start_a + duration_a + latency, for every edge"""
    for edge in problem.edges:
        a, b = model.start[edge.before], model.start[edge.after]
        model.cp.add(b >= a + problem.works[edge.before].duration + edge.latency)


def _first_in_first_out(model: Model, pairs: list[tuple[int, int]]) -> None:
    """start_a <= start_b, for works that differ in nothing but their microbatch"""
    for a, b in pairs:
        model.cp.add(model.start[a] <= model.start[b])


def _lanes(model: Model, problem: Problem) -> None:
    """No two works of a lane overlap."""
    intervals = {
        n: model.cp.new_fixed_size_interval_var(model.start[n], work.duration, f"run {work.name}")
        for n, work in enumerate(problem.works)
        if work.duration
    }
    for on in problem.on_lane:
        model.cp.add_no_overlap([intervals[n] for n in on if n in intervals])


def _length(model: Model, problem: Problem, objective: str) -> None:
    """length >= start_i + duration_i; for "span": of each lane, less its first start"""
    if objective == "makespan":
        for start, work in zip(model.start, problem.works):
            model.cp.add(model.length >= start + work.duration)
        return
    for number, on in enumerate(problem.on_lane):
        if not on:
            continue
        first = model.cp.new_int_var(0, 1 << 40, f"first on {number}")
        model.cp.add_min_equality(first, [model.start[n] for n in on])
        model.aliases.append((first, on, False))
        for n in on:
            model.cp.add(model.length >= model.start[n] + problem.works[n].duration - first)


# memory


def _memory(
    model: Model,
    problem: Problem,
    hint: Sequence[int],
    horizon: int,
    pairs: list[tuple[int, int]],
) -> None:
    """Every memory's holds, unless all of them fit at once."""
    by_memory: dict[int, list[Hold]] = defaultdict(list)
    for hold in problem.holds:
        by_memory[hold.memory].append(hold)
    follows = dict(pairs)
    for number, holds in sorted(by_memory.items()):
        room = problem.memories[number].capacity - problem.memories[number].resident
        if sum(h.amount for h in holds) <= room:
            continue
        chains = _chains(holds, follows)
        for chain in chains:
            _enough_ended(model, problem, chain, room)
        alike = len(chains) == 1 and all(len(h.last) == 1 for h in holds)
        if not alike:
            _all_within(model, problem, holds, room, horizon)


def _chains(holds: list[Hold], follows: dict[int, int]) -> list[list[Hold]]:
    """Holds of one amount whose works are sorted, in that order."""
    by_first = {(h.first, h.last, h.amount): h for h in holds}
    chains = []
    followers = {follows[h.first[0]] for h in holds if h.first[0] in follows}
    for hold in holds:
        if hold.first[0] in followers:
            continue
        chain: list[Hold] = []
        at: Hold | None = hold
        while at is not None:
            chain.append(at)
            key = tuple(tuple(follows.get(w, -1) for w in side) for side in (at.first, at.last))
            at = by_first.get((key[0], key[1], at.amount))
        chains.append(chain)
    return chains


def _enough_ended(model: Model, problem: Problem, chain: list[Hold], room: int) -> None:
    """start(first of hold m + L) >= end(last of hold m), where L of them fit: exact where the
    memory has no other holds, else a help"""
    fit = room // chain[0].amount
    for early, late in zip(chain, chain[fit:]):
        for w in late.first:
            for v in early.last:
                model.cp.add(model.start[w] >= model.start[v] + problem.works[v].duration)


def _all_within(
    model: Model, problem: Problem, holds: list[Hold], room: int, horizon: int
) -> None:
    """At any time the amounts of the holds that are begun and not ended sum up to <= room"""
    intervals, amounts = [], []
    for number, hold in enumerate(holds):
        name = f"hold {hold.memory}.{number}"
        begin = _extreme(model, problem, hold.first, horizon, name, ends=False)
        end = _extreme(model, problem, hold.last, horizon, name, ends=True)
        size = model.cp.new_int_var(0, horizon, f"{name} size")
        model.aliases.append((size, (*hold.first, -1, *hold.last), True))
        intervals.append(model.cp.new_interval_var(begin, size, end, name))
        amounts.append(hold.amount)
    model.cp.add_cumulative(intervals, amounts, room)


def _extreme(
    model: Model, problem: Problem, works: tuple[int, ...], horizon: int, name: str, ends: bool
) -> cp_model.LinearExprT:
    """The earliest start, or the latest end, of some works."""
    if len(works) == 1:
        start = model.start[works[0]]
        return start + problem.works[works[0]].duration if ends else start
    found = model.cp.new_int_var(0, horizon, f"{name} {'end' if ends else 'begin'}")
    if ends:
        parts = [model.start[w] + problem.works[w].duration for w in works]
        model.cp.add_max_equality(found, parts)
    else:
        model.cp.add_min_equality(found, [model.start[w] for w in works])
    model.aliases.append((found, works, ends))
    return found


def _hints(model: Model, problem: Problem, hint: Sequence[int], length: int) -> None:
    """A value for every variable."""
    ends = [s + w.duration for s, w in zip(hint, problem.works)]
    for variable, at in zip(model.start, hint):
        model.cp.add_hint(variable, at)
    model.cp.add_hint(model.length, length)
    for variable, works, of_ends in model.aliases:
        if -1 in works:
            cut = works.index(-1)
            begin = min(hint[w] for w in works[:cut])
            model.cp.add_hint(variable, max(ends[w] for w in works[cut + 1 :]) - begin)
        elif of_ends:
            model.cp.add_hint(variable, max(ends[w] for w in works))
        else:
            model.cp.add_hint(variable, min(hint[w] for w in works))

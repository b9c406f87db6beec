"""Model: a scheduling problem as CP-SAT constraints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ortools.sat.python import cp_model

from superscaler.schedule.bound import Limits
from superscaler.schedule.links import Links, room, tight_memories
from superscaler.schedule.problem import Hold, Problem


@dataclass
class Model:
    """The CP-SAT model and its variables: a start per work, the length of the schedule."""

    cp: cp_model.CpModel
    start: list[cp_model.IntVar]
    length: cp_model.IntVar
    aliases: list[tuple[cp_model.IntVar, tuple[int, ...], bool]]  # variable, works, of their ends


def build_model(
    problem: Problem,
    limits: Limits,
    hint: Sequence[int],
    length: int,
    bound: int,
    objective: str = "makespan",
    horizon: int | None = None,
) -> Model:
    """All constraints; `hint` (of this `length`) is the first solution and bounds all others.

    Everything ends by `horizon`, by default `length`.
    """
    cp = cp_model.CpModel()
    horizon = length if horizon is None else horizon
    starts = _starts(cp, problem, limits, horizon)
    model = Model(cp, starts, cp.new_int_var(bound, length, "length"), [])
    _precedence(model, problem)
    _first_in_first_out(model, limits.links)
    _lanes(model, problem)
    _enough_ended(model, problem, limits.links)
    holds = tight_memories(problem)
    for memory in limits.links.loose:
        _all_within(model, problem, holds[memory], room(problem, memory), horizon)
    _length(model, problem, limits, objective)
    _hints(model, problem, hint, length)
    cp.minimize(model.length)
    return model


def _starts(
    cp: cp_model.CpModel, problem: Problem, limits: Limits, horizon: int
) -> list[cp_model.IntVar]:
    """head_i <= start_i <= horizon - duration_i - tail_i"""
    return [
        cp.new_int_var(head, horizon - work.duration - tail, work.name)
        for work, head, tail in zip(problem.works, limits.heads, limits.tails)
    ]


def _precedence(model: Model, problem: Problem) -> None:
    """start_b >= start_a + duration_a + latency, for every edge"""
    for edge in problem.edges:
        a, b = model.start[edge.before], model.start[edge.after]
        model.cp.add(b >= a + problem.works[edge.before].duration + edge.latency)


def _first_in_first_out(model: Model, links: Links) -> None:
    """start_a <= start_b, for works that differ in nothing but their microbatch"""
    for a, b in links.sorted_pairs:
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


def _length(model: Model, problem: Problem, limits: Limits, objective: str) -> None:
    """length >= start_i + duration_i + tail_i; for "span": of each lane, less its first start"""
    if objective == "makespan":
        for start, work, tail in zip(model.start, problem.works, limits.tails):
            model.cp.add(model.length >= start + work.duration + tail)
        return
    for number, on in enumerate(problem.on_lane):
        if not on or problem.lanes[number].kind != "compute":
            continue
        first = model.cp.new_int_var(0, 1 << 40, f"first on {number}")
        model.cp.add_min_equality(first, [model.start[n] for n in on])
        model.aliases.append((first, on, False))
        for n in on:
            model.cp.add(model.length >= model.start[n] + problem.works[n].duration - first)


def _enough_ended(model: Model, problem: Problem, links: Links) -> None:
    """start(first of hold m + L) >= end(last of hold m), where L of them fit: exact where the
    memory has no other holds, else a help"""
    for a, b in links.by_memory:
        model.cp.add(model.start[b] >= model.start[a] + problem.works[a].duration)


def _all_within(
    model: Model, problem: Problem, holds: list[Hold], space: int, horizon: int
) -> None:
    """At any time the amounts of the holds that are begun and not ended sum up to <= space"""
    intervals, amounts = [], []
    for number, hold in enumerate(holds):
        name = f"hold {hold.memory}.{number}"
        begin = _extreme(model, problem, hold.first, horizon, name, ends=False)
        end = _extreme(model, problem, hold.last, horizon, name, ends=True)
        size = model.cp.new_int_var(0, horizon, f"{name} size")
        model.aliases.append((size, (*hold.first, -1, *hold.last), True))
        intervals.append(model.cp.new_interval_var(begin, size, end, name))
        amounts.append(hold.amount)
    model.cp.add_cumulative(intervals, amounts, space)


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

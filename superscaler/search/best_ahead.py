"""Best ahead: how many copies in are under way before the one in use, by time within memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from superscaler.cluster.cluster import Cluster
from superscaler.cluster.profile import Profile
from superscaler.emit.copies import segment_copies
from superscaler.errors import DoesNotFitError
from superscaler.materialize.program import Program
from superscaler.schedule.costs import StepCosts
from superscaler.schedule.memory import excess
from superscaler.schedule.problem import Problem
from superscaler.schedule.replay import length, replay
from superscaler.schedule.task_problem import task_problem
from superscaler.search.best_order import Ordered
from superscaler.search.step_costs import step_costs


def best_ahead(program: Program, cluster: Cluster, profile: Profile | None = None) -> Program:
    """The program, its tasks in the order they have, with the copies ahead that make its step the
    shortest within the devices' memory; where none fits, with those that take the least."""

    def judged(candidate: Program) -> tuple[int, float]:
        problem = task_problem(candidate.tasks, step_costs(candidate, cluster, profile))
        start = replay(problem, _lines(candidate, problem))
        return excess(problem, start), length(problem, start) * problem.tick_us

    return min(_candidates(program), key=judged)


def best_ahead_and_order(
    program: Program,
    cluster: Cluster,
    order: Callable[[Program, float], Ordered],
    time_limit_s: float,
    profile: Profile | None = None,
) -> Ordered:
    """The same with the order that `order` finds for each number of copies in a share of the time;
    of numbers that cost the same the smallest stands for all.

    Raises DoesNotFitError where no number of copies fits the memory.
    """
    candidates = _different(program, cluster, profile)
    found, errors = [], []
    for candidate in candidates:
        try:
            found.append(order(candidate, time_limit_s / len(candidates)))
        except DoesNotFitError as error:  # so many copies
            errors.append(error)
    if not found:
        raise errors[0]  # of the fewest copies
    return min(found, key=lambda o: o.schedule.length * o.problem.tick_us)


def _different(program: Program, cluster: Cluster, profile: Profile | None) -> list[Program]:
    """Candidates of which the scheduler is told different things."""
    costs: list[StepCosts] = []
    found = []
    for candidate in _candidates(program):
        new = step_costs(candidate, cluster, profile)
        if new not in costs:
            costs.append(new)
            found.append(candidate)
    return found


def _candidates(program: Program) -> Iterator[Program]:
    """One copy ahead, two, four, ... and all of the task with the most."""
    partition = program.partition
    most = max(
        (len(segment_copies(program, s).arriving) for s in program.tasks.segments), default=0
    )
    ahead = 1
    while ahead < max(most, 2):
        yield replace(program, partition=replace(partition, copies_ahead=ahead))
        ahead *= 2
    yield replace(program, partition=replace(partition, copies_ahead=ahead))


def _lines(program: Program, problem: Problem) -> list[list[int] | None]:
    """What each group of devices computes, in the program's order; what is sent goes when it is
    ready."""
    lines: list[list[int] | None] = []
    for lane, works in zip(problem.lanes, problem.on_lane):
        on = set(works)
        line = [t for t in program.timed.order if t in on]
        lines.append(line if lane.kind == "compute" else None)
    return lines

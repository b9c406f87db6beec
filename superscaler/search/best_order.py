"""Best order: a program whose tasks run in the order that the solver finds for a cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from superscaler.cluster.cluster import Cluster
from superscaler.cluster.profile import Profile
from superscaler.materialize.program import Program
from superscaler.schedule.orders import Action, PipelineOrder
from superscaler.schedule.portfolio import actions_of, apply_order, portfolio
from superscaler.schedule.problem import Kind, Problem, Schedule
from superscaler.schedule.replay import lane_order, length, replay
from superscaler.schedule.solver import Progress, solve
from superscaler.schedule.task_problem import task_problem, timed
from superscaler.schedule.validate import validate_schedule
from superscaler.search.step_costs import step_costs

MACROS = (Kind.FORWARD, Kind.BACKWARD, Kind.WEIGHT, Kind.FUSED)


@dataclass(frozen=True)
class Ordered:
    """A program in its new order, the problem that was solved, and the solution."""

    program: Program
    problem: Problem
    schedule: Schedule

    @property
    def order(self) -> PipelineOrder:
        """The order of the stages' tasks as text that a plan can hold: a line for each group."""
        return order_of(self.problem, self.schedule)


def best_order(
    program: Program,
    cluster: Cluster,
    profile: Profile | None = None,
    *,
    time_limit_s: float = 30.0,
    objective: str = "makespan",
    progress: Callable[[Progress], None] | None = None,
    known: PipelineOrder | None = None,
) -> Ordered:
    """Decide when every task of a program runs, on the cluster's costs and within its memory.

    The order found is never worse than `known`, where that fits. Raises ScheduleError when the step
    does not fit the memory in any order.
    """
    costs = step_costs(program, cluster, profile)
    problem, plain = (task_problem(program.tasks, costs, links) for links in (True, False))
    share = 0.5 if len(problem.works) > len(plain.works) else 1.0
    hints = None if known is None else [_applied(plain, known, objective)]
    schedule = _solved(plain, hints, objective, share * time_limit_s, progress)
    if share < 1:  # the order is a hint for where what is sent is decided as well
        lines = _with_links(problem, lane_order(plain, schedule.start))
        hints = [_timed_as(problem, lines, schedule.made_by, objective)]
        schedule = _solved(problem, hints, objective, share * time_limit_s, progress)
    found = timed(program.tasks, problem, schedule)
    validate_schedule(program.tasks, found)
    return Ordered(replace(program, timed=found), problem, schedule)


def _solved(
    problem: Problem,
    hints: list[Schedule] | None,
    objective: str,
    time_limit_s: float,
    progress: Callable[[Progress], None] | None,
) -> Schedule:
    """The solver's schedule, with further hints beside those that it has anyway."""
    if hints is not None:
        hints = [*portfolio(problem, objective), *hints]
    return solve(
        problem, time_limit_s=time_limit_s, objective=objective, progress=progress, hints=hints
    )


def _with_links(problem: Problem, lines: Sequence[Sequence[int]]) -> list[Sequence[int] | None]:
    """An order of what devices compute, with what is sent as soon as it is there."""
    return [*lines, *[None] * (len(problem.lanes) - len(lines))]


def _timed_as(
    problem: Problem, lines: Sequence[Sequence[int] | None], name: str, objective: str
) -> Schedule:
    start = replay(problem, lines)
    return Schedule(start, length(problem, start, objective), 0, "heuristic", name)


STANDS_FOR = {
    Kind.FORWARD: (Kind.FORWARD,),
    Kind.BACKWARD: (Kind.BACKWARD, Kind.FUSED),
    Kind.WEIGHT: (Kind.WEIGHT,),
    Kind.FUSED: (Kind.FUSED, Kind.BACKWARD, Kind.WEIGHT),
}


def _applied(problem: Problem, order: PipelineOrder, objective: str) -> Schedule:
    """The program's tasks in an order in which every stage has them all: what a stage does not do
    (B where all of its backward is W) is left out."""
    present = {(a.kind, a.stage, a.microbatch) for a in actions_of(problem)}
    lines = tuple(
        tuple(
            a
            for a in line
            if any((k, a.stage, a.microbatch) in present for k in STANDS_FOR[a.kind])
        )
        for line in order.lines
    )
    return apply_order(problem, replace(order, lines=lines), objective)


def order_of(problem: Problem, schedule: Schedule) -> PipelineOrder:
    """What each group of devices computes in turn, by stage and microbatch."""
    lines = []
    for lane, works in zip(problem.lanes, lane_order(problem, schedule.start), strict=True):
        if lane.kind != "compute":
            continue
        line: dict[Action, None] = {}
        for number in works:
            work = problem.works[number]
            if work.kind in MACROS and work.stage >= 0 and work.microbatch >= 0:
                line[Action(work.kind, work.stage, work.microbatch, work.chain)] = None
        lines.append(tuple(line))
    return PipelineOrder(schedule.made_by, tuple(lines))

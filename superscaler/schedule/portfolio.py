"""Portfolio: every known order that applies to a problem, timed with the problem's own costs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from functools import partial
from itertools import pairwise

from superscaler.errors import ScheduleError
from superscaler.schedule.bound import lower_bound
from superscaler.schedule.greedy import Rule, greedy
from superscaler.schedule.links import room
from superscaler.schedule.memory import fits
from superscaler.schedule.orders import ORDERS, TWO_WAY, Action, PipelineOrder
from superscaler.schedule.orders.known import zero_bubble
from superscaler.schedule.problem import Edge, Kind, Problem, Schedule
from superscaler.schedule.replay import length, replay

AHEAD = (Fraction(1, 3), Fraction(1, 2), Fraction(2, 3), Fraction(5, 6), Fraction(1), Fraction(2))
PATIENCE = (Fraction(0), Fraction(1, 2), Fraction(1))

Actions = dict[Action, tuple[int, ...]]  # an action may be several works


def portfolio(problem: Problem, objective: str = "makespan") -> list[Schedule]:
    """Schedules by known orders and greedy rules, those that fit the memory first, best first."""
    bound = lower_bound(problem, objective)
    found = [*_known(problem, objective, bound), *_greedy(problem, objective, bound)]
    return sorted(found, key=lambda s: (not fits(problem, s.start), s.length, s.made_by))


def apply_order(
    problem: Problem,
    order: PipelineOrder,
    objective: str = "makespan",
    *,
    bound: int | None = None,
) -> Schedule:
    """The problem's works in a given order; works that it does not name run when they are ready.

    `bound`: ticks that no schedule can beat, where they are known already. Raises ScheduleError
    when the order misses or invents an action, or contradicts the data.
    """
    actions = actions_of(problem)
    fused = {_fused(a) for a in actions if a.kind in (Kind.BACKWARD, Kind.WEIGHT)}
    lines = [_expand(line, actions, fused, order.name) for line in order.lines]
    named = {w for line in lines for w in line}
    for action, works in actions.items():
        if not named.issuperset(works):
            raise ScheduleError(f"order {order.name}: {action} is missing; give every action once")
    edges = [Edge(a, b, 0, "order") for line in lines for a, b in _in_turn(problem, line)]
    ordered = replace(problem, edges=(*problem.edges, *edges))
    start = replay(ordered, [None] * len(problem.lanes))
    size = length(problem, start, objective)
    if bound is None:
        bound = lower_bound(problem, objective)
    return Schedule(start, size, bound, "heuristic", order.name)


def actions_of(problem: Problem) -> Actions:
    """The works of each stage and microbatch, by what an order calls them; those of one action so
    that each comes after what it waits for."""
    found: dict[Action, list[int]] = defaultdict(list)
    for number in _chain_by_chain(problem):
        work = problem.works[number]
        kinds = (Kind.FORWARD, Kind.BACKWARD, Kind.WEIGHT, Kind.FUSED)
        if work.kind in kinds and work.stage >= 0 and work.microbatch >= 0:
            found[Action(work.kind, work.stage, work.microbatch, work.chain)].append(number)
    return {action: tuple(works) for action, works in found.items()}


def _chain_by_chain(problem: Problem) -> list[int]:
    """All works, each after those it waits for and soon after the last of them: parts in time one
    by one, so that the second uses the memory of the first."""
    waiting = [0] * len(problem.works)
    after: list[list[int]] = [[] for _ in waiting]
    for edge in problem.edges:
        waiting[edge.after] += 1
        after[edge.before].append(edge.after)
    ready = [w for w in reversed(range(len(waiting))) if not waiting[w]]
    found = []
    while ready:
        found.append(ready.pop())
        for follower in sorted(after[found[-1]], reverse=True):
            waiting[follower] -= 1
            if not waiting[follower]:
                ready.append(follower)
    return [*found, *(w for w, count in enumerate(waiting) if count)]  # those in circles last


def stage_devices(problem: Problem) -> list[int]:
    """The compute lane of each stage, numbered from 0; [] when stages are no plain chain, or a
    stage runs on several lanes."""
    lanes: dict[int, set[int]] = defaultdict(set)
    for work in problem.works:
        if work.kind is Kind.FORWARD and work.stage >= 0:
            if work.chain or len(work.lanes) != 1:
                return []
            lanes[work.stage].add(work.lanes[0])
    if sorted(lanes) != list(range(len(lanes))) or any(len(v) > 1 for v in lanes.values()):
        return []
    flat = [next(iter(lanes[s])) for s in range(len(lanes))]
    numbers = {lane: i for i, lane in enumerate(sorted(set(flat)))}
    return [numbers[lane] for lane in flat]


def _fused(action: Action) -> Action:
    return replace(action, kind=Kind.FUSED)


def _expand(line: tuple[Action, ...], actions: Actions, fused: set[Action], name: str) -> list[int]:
    """The works of a line; BW is B then W where these are works of their own, and the other way
    round."""
    works: dict[int, None] = {}
    for action in line:
        options = [action]
        if action.kind is Kind.FUSED and action in fused:
            options = [replace(action, kind=k) for k in (Kind.BACKWARD, Kind.WEIGHT)]
        elif action.kind is Kind.BACKWARD and action not in actions:
            options = [_fused(action)]  # nothing else waits for this stage: it has W alone
        present = [o for o in options if o in actions]
        if not present and not _stands_for_nothing(action, actions):
            raise ScheduleError(f"order {name}: the program has no {action}; leave it out")
        for option in present:
            works.update(dict.fromkeys(actions[option]))
    return list(works)


def _stands_for_nothing(action: Action, actions: Actions) -> bool:
    """A B where all of the backward is W, a W where all of it is BW."""
    if action.kind is Kind.BACKWARD:
        return replace(action, kind=Kind.WEIGHT) in actions
    if action.kind is Kind.WEIGHT:
        return _fused(action) in actions or replace(action, kind=Kind.BACKWARD) in actions
    return False


def _in_turn(problem: Problem, line: list[int]) -> list[tuple[int, int]]:
    """Neighbours on each lane of a line."""
    by_lane: dict[int, list[int]] = defaultdict(list)
    for w in line:
        for lane in problem.works[w].lanes:
            by_lane[lane].append(w)
    return [pair for works in by_lane.values() for pair in pairwise(works)]


def known_orders(problem: Problem) -> list[PipelineOrder]:
    """The named orders for the placement and the number of microbatches that a problem has, with
    zero-bubble ones capped by its memory."""
    found = []
    for make in _applicable(problem):
        try:
            found.append(make())
        except ScheduleError:  # the order is for another placement or number of microbatches
            continue
    return found


def _known(problem: Problem, objective: str, bound: int) -> list[Schedule]:
    found = []
    for order in known_orders(problem):
        try:
            found.append(apply_order(problem, order, objective, bound=bound))
        except ScheduleError:  # it contradicts an order of the user's
            continue
    return found


def _applicable(problem: Problem) -> list[Callable[[], PipelineOrder]]:
    """Makers of the orders for the direction or directions that microbatches run in."""
    microbatches = 1 + max((w.microbatch for w in problem.works), default=-1)
    devices = stage_devices(problem)
    if devices:
        held = _held(problem)
        capped = [
            partial(zero_bubble, devices, microbatches, held, ahead, f"zb_h{ahead} of {held}")
            for ahead in (1, 2)
            if 0 < held < 2 * len(devices)
        ]
        return [*(partial(make, devices, microbatches) for make in ORDERS.values()), *capped]
    down = _two_way_devices(problem)
    return [partial(make, down, microbatches) for make in TWO_WAY.values()] if down else []


def _held(problem: Problem) -> int:
    """Activations that fit the fullest memory, if each of its holds is of the largest size."""
    largest: dict[int, int] = {}
    by_works: dict[tuple[int, tuple[int, ...]], int] = defaultdict(int)
    for hold in problem.holds:
        by_works[hold.memory, hold.first] += hold.amount
    for (memory, _), amount in by_works.items():
        largest[memory] = max(largest.get(memory, 1), amount)
    return min((room(problem, m) // amount for m, amount in largest.items()), default=0)


def _two_way_devices(problem: Problem) -> list[int]:
    """The device of each stage of the way down, where odd microbatches run up; else []."""
    found: tuple[dict[int, int], dict[int, int]] = ({}, {})
    for work in problem.works:
        if work.kind is Kind.FORWARD and work.stage >= 0:
            if work.chain != work.microbatch % 2 or len(work.lanes) != 1:
                return []
            found[work.chain][work.stage] = work.lanes[0]
    down, up = ([way[s] for s in sorted(way)] for way in found)
    is_mirrored = bool(down) and down == up[::-1] and sorted(down) == list(range(len(down)))
    return down if is_mirrored else []


def _greedy(problem: Problem, objective: str, bound: int) -> list[Schedule]:
    """The rules that get through; each by its place in the grid of rules."""
    found: dict[tuple[int, ...], Schedule] = {}
    for ahead in (*AHEAD, None):
        for patience in PATIENCE:
            for least in (1, 2) if ahead is not None else (1,):
                start = greedy(problem, Rule(ahead, least, patience))
                if start is not None and start not in found:
                    name = f"greedy(ahead={ahead or 'free'}, patience={patience})"
                    size = length(problem, start, objective)
                    found[start] = Schedule(start, size, bound, "heuristic", name)
    return list(found.values())

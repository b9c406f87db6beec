"""Infeasible: what to say when no schedule fits the memory."""

from __future__ import annotations

from collections.abc import Sequence

from superscaler.errors import DoesNotFitError
from superscaler.schedule.memory import peaks
from superscaler.schedule.problem import Problem, Schedule


def cannot_fit(problem: Problem) -> bool:
    """Whether some memory is too small for what it always holds with one hold more."""
    needs = [m.resident for m in problem.memories]
    for hold in problem.holds:
        memory = problem.memories[hold.memory]
        needs[hold.memory] = max(needs[hold.memory], memory.resident + hold.amount)
    return any(need > m.capacity for need, m in zip(needs, problem.memories))


def memory_error(problem: Problem, known: Sequence[Schedule], proven: bool) -> DoesNotFitError:
    """On which device memory ends, by how much, and what would fit."""
    needed = _least(problem)
    if not proven or all(n <= m.capacity for n, m in zip(needed, problem.memories)):
        needed = _least_known(problem, known, needed)
        proven = False
    number = max(range(len(needed)), key=lambda m: needed[m] - problem.memories[m].capacity)
    memory, need = problem.memories[number], needed[number]
    where, over = f"{memory.kind} memory of device {memory.devices[0]}", need - memory.capacity
    if proven:
        said = f"{where} cannot hold the step: at least {need} bytes are needed, "
    else:
        said = f"no order was found that fits the {where}: the best known one needs {need} bytes, "
    said += f"{over} more than its {memory.capacity}"
    return DoesNotFitError("\n".join([said, "  " + "; ".join(_ways(problem, number, need))]))


def _least(problem: Problem) -> list[int]:
    """Per memory: what one work alone needs, beside what is always there."""
    return [m.resident + _largest_at_once(problem, n) for n, m in enumerate(problem.memories)]


def _least_known(problem: Problem, known: Sequence[Schedule], least: Sequence[int]) -> list[int]:
    """Per memory: what the known schedule needs that is over by the least; the whole when none is
    known."""
    if not known:
        held = [m.resident for m in problem.memories]
        for hold in problem.holds:
            held[hold.memory] += hold.amount
        return held
    all_peaks = [peaks(problem, s.start) for s in known]
    capacities = [m.capacity for m in problem.memories]
    found = min(all_peaks, key=lambda p: max(a - c for a, c in zip(p, capacities)))
    return [max(a, b) for a, b in zip(found, least)]


def _largest_at_once(problem: Problem, memory: int) -> int:
    """The bytes that one work takes or needs while it runs."""
    per_work: dict[int, int] = {}
    for hold in problem.holds:
        if hold.memory == memory:
            for w in {*hold.first, *hold.last}:
                if len(hold.first) == 1 or w in hold.last:
                    per_work[w] = per_work.get(w, 0) + hold.amount
    return max(per_work.values(), default=0)


def _ways(problem: Problem, number: int, need: int) -> list[str]:
    """Changes that would make room, with what they would have to save."""
    memory = problem.memories[number]
    over, space = need - memory.capacity, memory.capacity - memory.resident
    if space <= 0:
        return [
            f"{memory.resident} bytes are parameters and optimizer states: shard them (zero), or "
            "use more stages or a device with more memory"
        ]
    ways = [f"recompute more, so that forwards leave {over} bytes less"]
    microbatches = len({w.microbatch for w in problem.works if w.microbatch >= 0})
    if microbatches:
        factor = -(-(need - memory.resident) // space)
        ways.append(f"use {factor * microbatches} microbatches in place of {microbatches}")
    ways.append("use more stages, or a device with more memory")
    return ways

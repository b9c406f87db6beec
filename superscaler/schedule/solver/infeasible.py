"""Infeasible: what to say when no schedule fits the memory."""

from __future__ import annotations

from collections.abc import Sequence

from superscaler.errors import ScheduleError
from superscaler.schedule.memory import peaks
from superscaler.schedule.problem import Problem, Schedule


def memory_error(problem: Problem, known: Sequence[Schedule], proven: bool) -> ScheduleError:
    """On which device memory ends, by how much, and what would fit."""
    needed = _least(problem, known)
    number = max(range(len(needed)), key=lambda m: needed[m] - problem.memories[m].capacity)
    memory, need = problem.memories[number], needed[number]
    over = need - memory.capacity
    lines = [
        f"{memory.kind} memory of device {memory.devices[0]} cannot hold the step: at least {need} "
        f"bytes are needed, {over} more than its {memory.capacity}"
        if proven
        else f"no order was found that fits the {memory.kind} memory of device "
        f"{memory.devices[0]}: the best known one needs {need} bytes, {over} more than its "
        f"{memory.capacity}"
    ]
    lines.append("  " + "; ".join(_ways(problem, number, over)))
    return ScheduleError("\n".join(lines))


def _least(problem: Problem, known: Sequence[Schedule]) -> list[int]:
    """Per memory: the least that any known schedule needs, and what one work alone needs."""
    count = len(problem.memories)
    found = [min((peaks(problem, s.start)[m] for s in known), default=0) for m in range(count)]
    for m, memory in enumerate(problem.memories):
        found[m] = max(found[m], memory.resident + _largest_at_once(problem, m))
    return found


def _largest_at_once(problem: Problem, memory: int) -> int:
    """The bytes that one work takes or needs while it runs."""
    per_work: dict[int, int] = {}
    for hold in problem.holds:
        if hold.memory == memory:
            for w in {*hold.first, *hold.last}:
                if len(hold.first) == 1 or w in hold.last:
                    per_work[w] = per_work.get(w, 0) + hold.amount
    return max(per_work.values(), default=0)


def _ways(problem: Problem, number: int, over: int) -> list[str]:
    """Changes that would make room, with what they would save."""
    memory = problem.memories[number]
    if memory.resident > memory.capacity:
        return [
            f"{memory.resident} bytes are parameters and optimizer states: shard them (zero), or "
            "use more stages"
        ]
    held = sum(h.amount for h in problem.holds if h.memory == number)
    ways = ["recompute more, so that forwards leave less"]
    microbatches = {w.microbatch for w in problem.works if w.microbatch >= 0}
    if len(microbatches) > 0 and held:
        room = max(memory.capacity - memory.resident, 1)
        factor = 1 + -(-over // room)
        ways.append(f"use {(1 + factor) * len(microbatches)} microbatches in place of "
                    f"{len(microbatches)}")
    ways.append("use more stages or a device with more memory")
    return ways

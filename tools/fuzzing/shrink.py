"""Shrinking: leave out what a failing plan does not need to fail in the same way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from fuzzing.partitions import Group, Script
from superscaler.plan import Plan, PlanOptimizer

Case = Plan | Script
MAX_TRIALS = 300


def shrink(case: Case, fails: Callable[[Case], bool]) -> Case:
    """The smallest case found that still `fails`, one thing left out at a time."""
    trials = 0
    while True:
        for smaller in _smaller(case):
            trials += 1
            if trials > MAX_TRIALS:
                return case
            if fails(smaller):
                case = smaller
                break
        else:
            return case


def _smaller(case: Case) -> Iterator[Case]:
    yield from _smaller_script(case) if isinstance(case, Script) else _smaller_plan(case)


def _smaller_script(script: Script) -> Iterator[Script]:
    for i in range(len(script.orders)):
        yield replace(script, orders=(*script.orders[:i], *script.orders[i + 1 :]))
    if script.recompute and not script.orders:
        yield replace(script, recompute=())
    for i, group in enumerate(script.groups):
        before, after = script.groups[:i], script.groups[i + 1 :]
        yield replace(script, groups=(*before, *after))
        for smaller in _smaller_group(group):
            yield replace(script, groups=(*before, smaller, *after))


def _smaller_group(group: Group) -> Iterator[Group]:
    ops = group.operators
    size = len(ops) // 2
    while size:
        for at in range(0, len(ops), size):
            yield replace(group, operators=(*ops[:at], *ops[at + size :]))
        size //= 4
    for d in range(len(group.splits)):
        splits = (*group.splits[:d], *group.splits[d + 1 :])
        yield replace(group, splits=splits, devices=_first(group.devices, d))


def _first(nested: Any, dim: int) -> Any:
    """A nested tuple without one of its dims: its first entry along it."""
    return nested[0] if dim == 0 else tuple(_first(n, dim - 1) for n in nested)


def _smaller_plan(plan: Plan) -> Iterator[Plan]:
    for i in range(len(plan.assign)):
        yield replace(plan, assign=(*plan.assign[:i], *plan.assign[i + 1 :]))
    for i in range(len(plan.splits)):
        yield replace(plan, splits=(*plan.splits[:i], *plan.splits[i + 1 :]))
    for i in range(len(plan.stages)):
        if len(plan.stages) > 1:
            yield replace(plan, stages=(*plan.stages[:i], *plan.stages[i + 1 :]))
    for i, stage in enumerate(plan.stages):
        if len(stage.devices) > 1:
            single = replace(stage, devices=stage.devices[:1], mesh={})
            yield replace(plan, stages=(*plan.stages[:i], single, *plan.stages[i + 1 :]))
    if any(stage.first for stage in plan.stages):
        yield replace(plan, stages=tuple(replace(stage, first="") for stage in plan.stages))
    if plan.microbatches > 1:
        yield replace(plan, microbatches=plan.microbatches - 1)
    plain = Plan(plan.stages)
    for name in ("recompute", "optimizer", "order", "schedule"):
        if getattr(plan, name) != getattr(plain, name):
            yield replace(plan, **{name: getattr(plain, name)})
    if plan.optimizer != PlanOptimizer(plan.optimizer.split):
        yield replace(plan, optimizer=PlanOptimizer(plan.optimizer.split))

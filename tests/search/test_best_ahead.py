"""Copies ahead with an order: which numbers are tried, and which errors end the search."""

from __future__ import annotations

from dataclasses import replace

import pytest
from subjects import gpt

import superscaler as ss
from superscaler.errors import DoesNotFitError, ScheduleError
from superscaler.materialize.program import Program
from superscaler.plan import PlanOffload
from superscaler.policies import hybrid
from superscaler.search.best_ahead import best_ahead_and_order
from superscaler.search.best_order import Ordered, best_order

CLUSTER = ss.Cluster.load("v100-32g-8x2")


def program(activations: tuple[str, ...]) -> Program:
    plan = replace(hybrid(), offload=PlanOffload(activations=activations))
    return ss.compile(gpt().graph, plan, CLUSTER).program


def in_order(candidate: Program, seconds: float) -> Ordered:
    return best_order(candidate, CLUSTER, time_limit_s=seconds)


def tried(given: Program) -> list[tuple[int, float]]:
    found: list[tuple[int, float]] = []

    def order(candidate: Program, seconds: float) -> Ordered:
        found.append((candidate.partition.copies_ahead, seconds))
        return in_order(candidate, seconds)

    best_ahead_and_order(given, CLUSTER, order, 8.0)
    return found


def test_no_time_for_numbers_that_make_no_difference() -> None:
    assert tried(program(())) == [(1, 8.0)]
    several = tried(program(("layers.*",)))
    assert [ahead for ahead, _ in several][:2] == [1, 2]
    assert sum(seconds for _, seconds in several) == pytest.approx(8.0)


def test_numbers_that_do_not_fit_are_left_out() -> None:
    def order(candidate: Program, seconds: float) -> Ordered:
        if candidate.partition.copies_ahead > 1:
            raise DoesNotFitError("too many")
        return in_order(candidate, seconds)

    found = best_ahead_and_order(program(("layers.*",)), CLUSTER, order, 8.0)
    assert found.program.partition.copies_ahead == 1


def test_other_errors_are_not_taken_for_full_memory() -> None:
    def order(candidate: Program, seconds: float) -> Ordered:
        if candidate.partition.copies_ahead == 1:
            raise ScheduleError("the edges are cyclic")
        return in_order(candidate, seconds)

    with pytest.raises(ScheduleError, match="the edges are cyclic"):
        best_ahead_and_order(program(("layers.*",)), CLUSTER, order, 8.0)

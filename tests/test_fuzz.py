"""A fixed sample of what tools/fuzz_plans.py tries by the thousand."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "tools"))

from fuzzing.partitions import Group, Script
from fuzzing.report import Summary
from fuzzing.shrink import Case, shrink
from fuzzing.trial import ACCEPTED, FAILED, Outcome, attempt, classed, plan_of, subject_of

SEED = 0
NUM_MODELS = 12
PLANS_PER_MODEL = 5


@pytest.mark.parametrize("model", range(NUM_MODELS))
def test_random_plans_are_refused_or_equal_eager_training(model: int) -> None:
    subject = subject_of(SEED, model)
    summary = Summary()
    for number in range(model, NUM_MODELS * PLANS_PER_MODEL, NUM_MODELS):
        summary.add(attempt(number, subject, plan_of(SEED, number, subject), False))
    assert summary.num_failed == 0, "\n".join(
        f"tools/fuzz_plans.py --seed {SEED} --models {NUM_MODELS} --only {o.number}: {o.detail}"
        for o in summary.outcomes
        if o.verdict == FAILED
    )
    accepted = [o for o in summary.outcomes if o.verdict == ACCEPTED]
    assert 2 * len(accepted) >= PLANS_PER_MODEL
    assert any(o.is_split for o in accepted)


@pytest.mark.dist
@pytest.mark.parametrize("model", [1, 4])
def test_random_plan_on_processes(model: int) -> None:
    subject = subject_of(SEED, model)
    for number in range(model, 1000, NUM_MODELS):
        plan = plan_of(SEED, number, subject)
        outcome = attempt(number, subject, plan, False)
        if outcome.verdict == ACCEPTED and outcome.devices in (3, 4):
            outcome = attempt(number, subject, plan, True)
            assert outcome.verdict == ACCEPTED, outcome.detail
            return
    pytest.fail("no plan on 3 or 4 devices was accepted")


def test_shrink_leaves_what_fails() -> None:
    groups = tuple(Group((op, op + 1), (("batch", 2),), (0, 1)) for op in (0, 2, 4))

    def fails(case: Case) -> bool:
        assert isinstance(case, Script)
        return any(5 in group.operators and group.splits for group in case.groups)

    assert shrink(Script(groups), fails) == Script((Group((5,), (("batch", 2),), (0, 1)),))


def test_errors_of_one_kind_are_counted_together() -> None:
    one = "op_trans(fc1.mm, split batch by 3): axis batch has 4 elements; use 2"
    other = "op_trans(blocks.0.fc2.mm, split batch by 5): axis batch has 6 elements; use 2, 3"
    assert classed(one) == classed(other)


def test_summary_counts_verdicts() -> None:
    summary = Summary()
    for verdict in (ACCEPTED, ACCEPTED, FAILED):
        summary.add(Outcome(0, "Twin", "Plan", verdict, why="differs: loss", devices=2))
    text = summary.text(1.0)
    assert "accepted      2   67%  2 Plan" in text
    assert "       1  differs: loss" in text
    assert summary.num_failed == 1

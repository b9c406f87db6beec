"""The order of plans in the benchmark of predictions: which pairs count as told apart."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

TOOLS = Path(__file__).parents[2] / "tools"
sys.path.insert(0, str(TOOLS))

import bench_simulate  # noqa: E402

from superscaler.measure.steps import RealSteps  # noqa: E402


def row(plan: str, predicted_us: float, *rounds_us: float) -> Any:
    """A plan with three steps of each round, one of which was held up."""
    steps = tuple(us for middle in rounds_us for us in (middle - 1, middle, 10 * middle))
    return (
        SimpleNamespace(plan=plan),
        SimpleNamespace(step_us=predicted_us),
        RealSteps(steps, (0,), ()),
    )


def test_rounds_are_medians_of_their_steps() -> None:
    *_, found = row("a", 1, 50, 70)
    assert found.rounds_us == (50, 70)


def test_pairs_that_are_told_apart() -> None:
    a, b, c = row("a", 40, 50, 50, 50), row("b", 30, 49, 51, 60), row("c", 20, 90, 90, 90)
    assert bench_simulate._kept([a, b]) == (
        "0 of 1 pairs in order, 0 of the 0 that are told apart; not a and b (medians 15.3% apart)"
    )
    assert bench_simulate._kept([a, c]).startswith(
        "0 of 1 pairs in order, 0 of the 1 that are told apart; not a and c (medians 44.4% apart)"
    )
    assert bench_simulate._kept([row("d", 60, 51, 70, 51), a]) == (
        "1 of 1 pairs in order, 1 of the 1 that are told apart"
    )

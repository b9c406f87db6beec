"""The scheduler decides by measured times where it is given a profile."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
from subjects import gpt

import superscaler as ss
from superscaler.cluster import Cluster
from superscaler.cluster.operators import OperatorWork
from superscaler.cluster.profile import OperatorTime, Profile
from superscaler.errors import PlanError

ORDER = "pipeline(pp=2, microbatches=4, order='auto')"
FREE = "pipeline(pp=2, microbatches=4, order='auto', placement='free')"
WORK = OperatorWork("aten.mm.default", "float64", 2e3, 1e3, ((10, 10), (10, 10)))
SLOW = Profile("generic", (OperatorTime(WORK, 1000.0),))  # every product takes far longer


def compiled(plan: str, profile: object = None) -> ss.CompiledProgram:
    return ss.compile(gpt().graph, plan, Cluster(2), profile=profile)  # type: ignore[arg-type]


@pytest.mark.parametrize("plan", [ORDER, FREE])
def test_orders_and_placements_are_by_measured_times(plan: str, tmp_path: Path) -> None:
    SLOW.save(tmp_path / "profile.json")
    plain, measured = compiled(plan), compiled(plan, tmp_path / "profile.json")
    assert plain.ordered is not None
    assert measured.ordered is not None
    lengths = [p.ordered.schedule.length * p.ordered.problem.tick_us for p in (plain, measured)]
    assert lengths[1] > 10 * lengths[0]
    assert lengths[1] == pytest.approx(measured.simulate(profile=SLOW).step_us, rel=0.2)


AHEAD = "offload({}, activations='layers.*', ahead='auto')"


@pytest.mark.parametrize(
    ("module", "plan"),
    [
        ("best_order", ORDER),
        ("best_placement", FREE),
        ("best_ahead", AHEAD.format(ORDER)),
        ("best_ahead", AHEAD.format("pipeline(pp=2, microbatches=4)")),
    ],
)
def test_every_decision_is_by_the_profile(
    module: str, plan: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = import_module(f"superscaler.search.{module}")
    whole, profiles = place.step_costs, []

    def watched(program: object, cluster: object, profile: object = None) -> object:
        profiles.append(profile)
        return whole(program, cluster, profile)

    monkeypatch.setattr(place, "step_costs", watched)
    compiled(plan, SLOW)
    assert profiles
    assert all(profile is SLOW for profile in profiles)


def test_a_profile_of_another_device() -> None:
    with pytest.raises(PlanError, match="profile was measured on other"):
        compiled(ORDER, replace(SLOW, device="other"))


def test_what_is_no_profile() -> None:
    with pytest.raises(PlanError, match="profile: expected a Profile, or the file"):
        compiled(ORDER, 3)

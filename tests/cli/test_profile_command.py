"""`superscaler profile`: what it writes, what it prints, what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from superscaler.cli import app
from superscaler.cluster import Cluster
from superscaler.cluster.measure import device_kind
from superscaler.cluster.profile import Profile
from superscaler.measure.steps import Job, RealSteps, run_real_steps

ROOT = Path(__file__).parents[2]
GPT = [
    f"{ROOT / 'examples/gpt.py'}:workload",
    *(f"--set={s}" for s in ("layers=1", "hidden=16", "heads=2", "seq=8", "batch=4")),
]


@pytest.mark.dist
def test_profile_then_check(tmp_path: Path) -> None:
    out, cluster = tmp_path / "p.json", tmp_path / "c.yaml"
    made = CliRunner().invoke(
        app, ["profile", *GPT, "--ranks", "2", "-o", str(out), "--cluster-out", str(cluster)]
    )
    assert made.exit_code == 0, made.output
    profile, machine = Profile.load(out), Cluster.load(cluster)
    assert profile.device == machine.device(0).kind
    assert {t.kind for t in profile.links} >= {"all_reduce", "all_gather", "all_to_all", "move"}
    assert "aten.mm.default" in {t.work.target for t in profile.operators}
    checked = CliRunner().invoke(app, ["profile", *GPT, "--check", str(out)])
    assert checked.exit_code == 0, checked.output
    assert "aten.mm.default" in checked.stdout
    assert "all of them" in checked.stdout
    plan = ["--plan", "data_parallel(dp=2)"]
    stepped = CliRunner().invoke(app, ["profile", *GPT, "--check", str(out), *plan])
    assert stepped.exit_code == 0, stepped.output
    assert "step by kernels timed now: predicted" in stepped.stdout
    assert "0.00%)" in stepped.stdout  # bytes
    measured = ["--cluster", str(cluster), "--profile", str(out)]
    simulated = CliRunner().invoke(app, ["simulate", *GPT, *plan, *measured])
    assert simulated.exit_code == 0, simulated.output


@pytest.mark.dist
def test_the_real_step_is_cast_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs: list[Job] = []

    def watched(given: list[Job], size: int, rounds: int) -> list[RealSteps]:
        jobs.extend(given)
        return run_real_steps(given, size, rounds)

    monkeypatch.setattr("superscaler.measure.steps.run_real_steps", watched)
    Profile(device_kind()).save(tmp_path / "p.json")
    model = f"{ROOT / 'tests/models/mlp.py'}:mlp"
    options = ["--check", str(tmp_path / "p.json"), "--plan", "data_parallel(dp=2)"]
    result = CliRunner().invoke(app, ["profile", model, *options, "--dtype", "float64"])
    assert result.exit_code == 0, result.output
    batch = json.dumps(json.loads(jobs[0].files["manifest.json"])["batch"])
    assert "float64" in batch
    assert "float32" not in batch


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ranks", "many"], "expected numbers of processes, 2 among them"),
        (["--plan", "zero(dp=2)"], "profile --plan: expected a workload, FILE.py:callable, to me"),
        (["--set", "a=1", "--dtype", "float64"], "profile --set --dtype: expected a workload"),
        (["--check", "nowhere.json"], "profile --check: expected a workload, FILE.py:callable"),
        ([*GPT, "--plan", "zero(dp=2)"], "profile --plan: expected --check PROFILE with it; add"),
        ([*GPT, "--check", "nowhere.json"], "profile 'nowhere.json': no such file"),
        (
            [*GPT, "--check", "nowhere.json", "--out", "x", "--ranks", "2"],
            "profile --out --ranks: --check writes nothing and measures no communication",
        ),
        (
            [*GPT, "--check", "nowhere.json", "--cluster-out", "x"],
            "profile --cluster-out: --check writes nothing",
        ),
    ],
)
def test_what_is_refused(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["profile", *arguments])
    assert result.exit_code == 2
    assert message in result.output.replace("\n", " ")

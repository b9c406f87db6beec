"""`superscaler simulate`: what it prints, what it writes, what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from superscaler.cli import app
from superscaler.simulate.json import read_simulation

ROOT = Path(__file__).parents[2]
WORKLOAD = f"{ROOT / 'examples/gpt.py'}:workload"
GPT = [WORKLOAD, *(f"--set={s}" for s in ("layers=2", "hidden=16", "heads=2", "seq=8", "batch=4"))]
PLAN = "--plan=pipeline(pp=2, microbatches=2)"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A compiled program's folder."""
    folder = tmp_path_factory.mktemp("simulate") / "gpt"
    made = CliRunner().invoke(app, ["compile", *GPT, PLAN, "--cluster", "cpux2", "-o", str(folder)])
    assert made.exit_code == 0, made.output
    return folder


def simulate(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["simulate", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.stdout


def error(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["simulate", *map(str, arguments)])
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return result.stderr.rpartition("error: ")[2]


def test_the_summary_of_a_folder(program: Path) -> None:
    text = simulate(program)
    for title in ("step", "cpu", "devices idle", "peak memory", "at the peak of rank", "gloo"):
        assert title in text


def test_a_workload_says_the_same(program: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "step.json"
    simulate(*GPT, PLAN, "--cluster", "cpux2", "--out", out)
    printed = json.loads(simulate(program, "--json"))
    found = read_simulation(out)
    assert (found.step_us, found.world_size) == (printed["step_us"], printed["world_size"])


def test_another_cluster_changes_the_step(program: Path) -> None:
    times = [
        json.loads(simulate(program, "--cluster", name, "--json"))["step_us"]
        for name in ("cpux2", "h100x8")
    ]
    assert times[0] != times[1]


def test_a_cluster_that_is_too_small(program: Path) -> None:
    assert "use fewer devices or a larger cluster" in error(program, "--cluster", "cpux1")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([WORKLOAD], "a workload needs --plan, such as"),
        (["nothing"], "simulate nothing: no such folder; give a program's folder, or a workload"),
    ],
)
def test_what_is_refused(arguments: list[str], message: str) -> None:
    assert message in error(*arguments)

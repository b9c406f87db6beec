"""Options that mean nothing for what a command is given are refused, not ignored."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from superscaler.cli import app
from superscaler.cli.options import read_plan

COMPILED = "a program's folder, which is compiled already"
SIMULATED = "a simulation, which is of one program on one cluster"
PRINTED = "a plan, which is printed as it is"


@pytest.mark.parametrize(
    ("command", "options", "why"),
    [
        (
            ["launch", "program"],
            [
                "--plan=zigzag(1)",
                "--set=layers=3",
                "--devices=9",
                "--cluster=x",
                "--out=y",
                "--time-limit=9",
            ],
            COMPILED,
        ),
        (
            ["show", "program"],
            [
                "--plan=x",
                "--set=a=1",
                "--devices=9",
                "--cluster=x",
                "--dtype=float64",
                "--time-limit=9",
            ],
            COMPILED,
        ),
        (["show", "zero(dp=2)"], ["--plan=x", "--devices=9"], PRINTED),
        (
            ["simulate", "program"],
            ["--plan=x", "--set=a=1", "--devices=7", "--dtype=float64", "--time-limit=9"],
            COMPILED,
        ),
        (
            ["view", "program"],
            ["--plan=x", "--set=a=1", "--devices=7", "--dtype=float64", "--time-limit=9"],
            COMPILED,
        ),
        (
            ["view", "step.json"],
            [
                "--plan=x",
                "--set=a=1",
                "--devices=9",
                "--cluster=x",
                "--dtype=float64",
                "--time-limit=9",
            ],
            SIMULATED,
        ),
    ],
)
def test_the_option_and_the_reason_are_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: list[str],
    options: list[str],
    why: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "program").mkdir()
    (tmp_path / "step.json").touch()
    for option in options:
        result = CliRunner().invoke(app, [*command, option])
        name = option.partition("=")[0]
        assert result.exit_code == 2, result.output
        expected = f"{' '.join(command)}: {name} means nothing for {why}; leave it out, or name"
        assert expected in result.stderr


def test_several_at_once(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["launch", str(tmp_path), "--plan=x", "--devices=2"])
    assert "--plan and --devices mean nothing for a program's folder" in result.stderr
    assert "leave them out" in result.stderr


@pytest.mark.parametrize("command", ["compile", "simulate", "verify", "view", "show", "launch"])
def test_a_time_limit_is_for_what_the_solver_decides(command: str) -> None:
    arguments = ["x.py:workload", "--plan=zero(dp=2)", "--time-limit=5"]
    result = CliRunner().invoke(app, [command, *arguments])
    assert result.exit_code == 2, result.output
    expected = "--time-limit: plan 'zero(dp=2)' leaves neither order nor placement to the solver"
    assert expected in result.stderr


def test_a_time_limit_takes_the_place_of_the_plans() -> None:
    plan = read_plan("pipeline(pp=2, microbatches=2, order='auto')", None, 7.5)
    assert plan.schedule.time_limit_s == 7.5
    assert read_plan("pipeline(pp=2, microbatches=2, order='auto')", 2).schedule.time_limit_s == 30

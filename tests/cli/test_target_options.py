"""Options that mean nothing for what a command is given are refused, not ignored."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from superscaler.cli import app

COMPILED = "a program's folder, which is compiled already"
SIMULATED = "a simulation, which is of one program on one cluster"
PRINTED = "a plan, which is printed as it is"


@pytest.mark.parametrize(
    ("command", "options", "why"),
    [
        (
            ["launch", "program"],
            ["--plan=zigzag(1)", "--set=layers=3", "--devices=9", "--cluster=x", "--out=y"],
            COMPILED,
        ),
        (
            ["show", "program"],
            ["--plan=x", "--set=a=1", "--devices=9", "--cluster=x", "--dtype=float64"],
            COMPILED,
        ),
        (["show", "zero(dp=2)"], ["--plan=x", "--devices=9"], PRINTED),
        (
            ["simulate", "program"],
            ["--plan=x", "--set=a=1", "--devices=7", "--dtype=float64"],
            COMPILED,
        ),
        (["view", "program"], ["--plan=x"], COMPILED),
        (
            ["view", "step.json"],
            ["--plan=x", "--set=a=1", "--devices=9", "--cluster=x", "--dtype=float64"],
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

"""What users meet when something is wrong: one line on stderr, exit code 2, no traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from superscaler.cli import app

ROOT = Path(__file__).parents[2]
GPT = [
    f"{ROOT / 'examples/gpt.py'}:workload",
    *(f"--set={setting}" for setting in ("layers=2", "hidden=16", "heads=2", "seq=8", "batch=4")),
]
AUTO = "pipeline(pp=2, microbatches=2, order='auto')"
COMPILE = ["compile", *GPT, "-o", "never"]

BRANCHING = """
import torch
import superscaler as ss

def step(model, batch):
    y = model(batch)
    if y.sum() > 0:
        return y.sum()
    return y.mean()

def workload():
    return ss.Workload(step=step, model=torch.nn.Linear(4, 4), batch=torch.ones(2, 4),
                       optimizer=lambda p: torch.optim.SGD(p, lr=0.1))
"""


def error(*arguments: object) -> str:
    """The error line of a command that the user has to mend."""
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    line = result.stderr.strip().splitlines()[-1]
    assert line.startswith("error: "), result.stderr
    return line.removeprefix("error: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trace", "nothing.py:workload"], "there is no file nothing.py"),
        (["trace", "nothing.py"], "no callable is named"),
        (["trace", *GPT, "--set", "size=3"], "it has no setting 'size'; its settings: layers"),
        (["trace", *GPT, "--set", "layers"], "--set layers: write --set key=value"),
        (["trace", *GPT, "--dtype", "float65"], "--dtype float65: expected float64, float32"),
        (
            ["trace", *GPT, "--dtype", "float8_e4m3fn"],
            "--dtype float8_e4m3fn: expected float64, fl",
        ),
        (["verify", *GPT, "--plan", ""], "plan '': expected a YAML file, the name of a plan that"),
        (
            ["launch", GPT[0], "--dtype", "float8_e4m3fn", "--plan", "dp2"],
            "float8_e4m3fn: expected",
        ),
        ([*COMPILE, "--plan", "zero(**{})"], "zero takes its arguments by name: dp, stage"),
        (
            [*COMPILE, "--plan", "hybrid(dp=1000000000)"],
            "hybrid: dp=1000000000: expected a product",
        ),
        ([*COMPILE, "--plan", "zeros(dp=2)"], "no policy 'zeros'; known: bidirectional, "),
        ([*COMPILE, "--plan", "zero(dp=2, stge=1)"], "zero has no argument 'stge'; it takes dp"),
        ([*COMPILE, "--plan", "zero()"], "zero needs dp"),
        ([*COMPILE, "--plan", "zero(dp=2, stage=4)"], "zero: expected stage 1, 2 or 3, found 4"),
        ([*COMPILE, "--plan", "data_parallel("], "expected a call with numbers and texts"),
        (
            [*COMPILE, "--plan", "missing.yaml"],
            "and no shipped plan of that name; those that ship: dp2",
        ),
        (
            [*COMPILE, "--plan", "data_parallel(dp=2)", "--devices", "4"],
            "uses 2 devices, --devices says 4",
        ),
        (
            [*COMPILE, "--plan", "data_parallel(dp=3)"],
            "axis batch has 4 elements, not divisible by 3; use 2, 4",
        ),
        (
            [*COMPILE, "--plan", "data_parallel(dp=2)", "--cluster", "moon"],
            "cluster 'moon': no such file",
        ),
        (
            [*COMPILE, "--plan", AUTO, "--time-limit", "0"],
            "--time-limit: expected seconds above 0, found 0",
        ),
        (
            ["show", "build/typo"],
            "show build/typo: no such file or folder; give a program's folder, a workload FILE.py",
        ),
        (["show", GPT[0]], "a workload needs --plan"),
        (["launch", GPT[0]], "a workload needs --plan"),
        (["launch", "no/such/folder"], "no such folder; give a program's folder"),
    ],
)
def test_message(arguments: list[str], message: str) -> None:
    assert message in error(*arguments)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stages:\n- devices: [0, 1]\n  mesh: {dp: 3}\n", "line 3: stages.0.mesh: the mesh has 3"),
        ("microbatches: 2\n", "line 1: stages: this field is missing"),
        ("stages:\n- devices: [0]\norder: best\n", "line 3: order: expected one of gpipe, 1f1b"),
        ("stages:\n- devices: [0\n", "not valid YAML"),
        ("stages:\n- devices: [0]\nsplit: []\n", "line 3: split: unknown field; known: stages"),
    ],
)
def test_yaml_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    found = error(*COMPILE, "--plan", file)
    assert f"{file}, line" in found
    assert message in found


def test_a_plan_for_another_model(tmp_path: Path) -> None:
    """A parameter that the plan names was renamed in the model."""
    file = tmp_path / "mine.yaml"
    file.write_text(
        "stages:\n- devices: [0, 1]\n  mesh: {tp: 2}\n"
        "splits:\n- {axis: 'layers.*.mlp.weight:0', dim: tp}\n"
    )
    found = error(*COMPILE, "--plan", file)
    assert "no axis 'layers.*.mlp.weight:0' in this graph" in found


def test_control_flow_that_depends_on_data(tmp_path: Path) -> None:
    file = tmp_path / "branching.py"
    file.write_text(BRANCHING)
    found = error("verify", f"{file}:workload", "--plan", "data_parallel(dp=2)")
    assert "branching.py:7" in found


FAULTY = BRANCHING.replace("if y.sum() > 0:", "if 1 / 0:")


@pytest.mark.parametrize("command", ["trace", "axes", "verify"])
def test_a_step_that_raises(tmp_path: Path, command: str) -> None:
    file = tmp_path / "faulty.py"
    file.write_text(FAULTY)
    plan = [] if command != "verify" else ["--plan", "data_parallel(dp=2)"]
    found = error(command, f"{file}:workload", *plan)
    assert found.startswith("the step raised ZeroDivisionError: division by zero (at ")
    assert found.endswith("faulty.py:7: if 1 / 0:)")


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("optimizer=None", "as optimizer, found None"),
        ("optimizer='adamw'", "as optimizer, found 'adamw'"),
        ("optimizer=lambda p: 1 / 0", "optimizer(parameters) raised ZeroDivisionError: division"),
        (
            "data=lambda: 5, optimizer=torch.optim.SGD",
            "the workload's data() gave 5; give an iterab",
        ),
        (
            "data=lambda: [torch.ones(2, 3)], optimizer=torch.optim.SGD",
            "training the untouched model raised RuntimeError: mat1 and mat2 shapes cannot be",
        ),
    ],
)
def test_a_faulty_workload(tmp_path: Path, field: str, message: str) -> None:
    file = tmp_path / "faulty.py"
    text = BRANCHING.replace("if y.sum() > 0:", "if False:")
    file.write_text(text.replace("optimizer=lambda p: torch.optim.SGD(p, lr=0.1)", field))
    command = ["verify", f"{file}:workload", "--plan", "data_parallel(dp=2)", "--in-process"]
    assert message in error(*command)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--steps", "-1"], "argument --steps: expected a whole number of 0 or more, found '-1'"),
        (["--log-every", "0"], "argument --log-every: expected a whole number of 1 or more, found"),
        (["--timeout", "-3"], "argument --timeout: expected seconds above 0, found '-3'"),
        (["--stepz", "3"], "unrecognized arguments: --stepz 3"),
    ],
)
def test_options_of_the_training_loop(option: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["launch", GPT[0], "--plan", "data_parallel(dp=2)", *option])
    assert result.exit_code == 2, result.output
    assert message in result.stderr


def test_unequal_world_size_at_launch(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        app, ["compile", *GPT, "--plan", "data_parallel(dp=2)", "-o", str(tmp_path)]
    )
    assert result.exit_code == 0
    assert "it was compiled for 2 ranks, --nproc-per-node 3 --nnodes 1 makes 3" in error(
        "launch", tmp_path, "--nproc-per-node", "3"
    )
    assert "--nnodes 3 does not divide them" in error("launch", tmp_path, "--nnodes", "3")


def test_a_program_of_another_format(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    assert "compile the program again" in error("launch", tmp_path)
    (tmp_path / "manifest.json").write_text("not JSON")
    assert "is not JSON" in error("show", tmp_path)
    (tmp_path / "manifest.json").unlink()
    assert "this is no program folder" in error("launch", tmp_path)


@pytest.mark.parametrize("module", ["superscaler", "superscaler.cli"])
def test_the_installed_command(module: str) -> None:
    """In a process of its own: the entry point, the streams and the exit code."""
    command = [sys.executable, "-m", module, "show", "zeros(dp=2)"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: plan 'zeros(dp=2)': no policy 'zeros'")

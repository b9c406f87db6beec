"""`superscaler launch`: the torchrun command it makes, and a run of it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from superscaler.cli import app
from superscaler.runtime.launch import parse

ROOT = Path(__file__).parents[2]
GPT = [
    f"{ROOT / 'examples/gpt.py'}:workload",
    *(f"--set={setting}" for setting in ("layers=2", "hidden=16", "heads=2", "seq=8", "batch=4")),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("program")
    arguments = ["compile", *GPT, "--plan", "data_parallel(dp=4)", "-o", str(path)]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    return path


def command(folder: Path, *arguments: str) -> str:
    result = CliRunner().invoke(app, ["launch", str(folder), "--dry-run", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout.strip().partition("torch.distributed.run ")[2]


def test_one_node(folder: Path) -> None:
    expected = f"--nproc-per-node=4 --standalone -m superscaler.runtime {folder} --steps 7"
    assert command(folder, "--steps", "7") == expected


def test_several_nodes(folder: Path) -> None:
    made = command(
        folder, "--nnodes", "2", "--node-rank", "1", "--rdzv-backend", "c10d",
        "--rdzv-endpoint=node0:29500", "--checkpoint", "ck",
    )  # fmt: skip
    assert made == (
        "--nproc-per-node=2 --nnodes=2 --node-rank=1 --rdzv-backend c10d "
        f"--rdzv-endpoint=node0:29500 -m superscaler.runtime {folder} --checkpoint ck"
    )


def test_the_programs_dtype_is_kept(tmp_path: Path) -> None:
    arguments = ["compile", *GPT, "--plan", "data_parallel(dp=2)", "--dtype", "float64"]
    assert CliRunner().invoke(app, [*arguments, "-o", str(tmp_path)]).exit_code == 0
    assert command(tmp_path).endswith(f"{tmp_path} --dtype float64")


def test_the_training_loop_takes_the_same_dtypes(capsys: pytest.CaptureFixture[str]) -> None:
    assert parse(["FOLDER", "--dtype", "torch.float16"]).dtype == "float16"
    with pytest.raises(SystemExit):
        parse(["FOLDER", "--dtype", "int8"])
    expected = "argument --dtype: expected float64, float32, bfloat16 or float16, found 'int8'"
    assert expected in capsys.readouterr().err
    with pytest.raises(SystemExit):
        parse(["--help"])
    assert "float64, float32, bfloat16 or float16: cast" in " ".join(
        capsys.readouterr().out.split()
    )


@pytest.mark.dist
def test_a_workload_is_compiled_and_trained(tmp_path: Path) -> None:
    arguments = [*GPT, "--plan", "pipeline(pp=2, microbatches=2)", "-o", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-m", "superscaler.cli", "launch", *arguments, "--steps", "3"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = ["loading PyTorch ...", "starting 2 processes ...", "meeting 2 ranks ..."]
    found = [line for line in done.stderr.splitlines() if line in said]
    assert found == said  # once each: rank 0 speaks for all
    losses = [float(x) for x in re.findall(r"step +\d+ +loss ([\d.]+)", done.stdout)]
    assert len(losses) == 3
    assert losses[2] < losses[0]


@pytest.mark.dist
def test_the_exit_code_is_the_runs(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "superscaler.cli", "launch", str(folder), "--weights", "nowhere"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert "there is no file nowhere" in done.stderr

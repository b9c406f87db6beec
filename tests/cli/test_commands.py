"""Every command through the application: what it prints, and its exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from superscaler.cli import app

ROOT = Path(__file__).parents[2]
GPT = [
    f"{ROOT / 'examples/gpt.py'}:workload",
    *(f"--set={setting}" for setting in ("layers=2", "hidden=16", "heads=2", "seq=8", "batch=4")),
]


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def passed(*arguments: str | Path) -> Result:
    result = run(*arguments)
    assert result.exit_code == 0, result.stderr
    return result


@pytest.mark.parametrize(
    "command", [[], ["trace"], ["axes"], ["compile"], ["verify"], ["launch"], ["show"]]
)
def test_help_has_examples(command: list[str]) -> None:
    text = passed(*command, "--help").stdout
    assert ("Examples:" in text) == bool(command)


def test_help_needs_no_torch() -> None:
    """It takes seconds to import."""
    code = "import sys, superscaler.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("command", ["trace", "compile", "verify", "launch", "profile"])
def test_help_names_the_dtypes(command: str) -> None:
    said = " ".join(passed(command, "--help").stdout.replace("│", " ").split())
    assert "float64, float32, bfloat16 or float16: cast the model" in said


def test_trace() -> None:
    assert "operators" in passed("trace", *GPT).stdout
    text = passed("trace", *GPT, "--text").stdout
    assert text.startswith("param tokens.weight: float32[256, 16]\n")
    assert "backward:" in text
    data = json.loads(passed("trace", *GPT, "--json").stdout)
    assert data["parameters"]["tensors"] == data["parameters"]["trained"]
    assert data["batch"][0] == {"name": "tokens", "shape": [4, 8], "dtype": "int64"}


def test_trace_writes_its_text(tmp_path: Path) -> None:
    passed("trace", *GPT, "-o", tmp_path / "new")
    assert (tmp_path / "new/graph.txt").read_text() == passed("trace", *GPT, "--text").stdout


def test_axes() -> None:
    text = passed("axes", *GPT).stdout
    assert "layers.*.fc1.weight:0" in text
    assert "layers.0.fc1.weight:0" not in text
    assert "have an axis rule" in text
    assert "layers.0.fc1.weight:0" in passed("axes", *GPT, "--all").stdout


def test_axes_as_data() -> None:
    data = json.loads(passed("axes", *GPT, "--json").stdout)
    batch, *others = data["axes"]
    assert (batch["name"], batch["size"], batch["work"]) == ("batch", 4, pytest.approx(1.0))
    ffn = next(axis for axis in others if axis["name"] == "layers.0.fc1.weight:0")
    assert "layers.0.fc2.weight:1" in ffn["spots"]
    assert ffn["partial_bytes"] > 0
    assert data["without_rule"] == []


def test_axes_lists_operators_without_a_rule(tmp_path: Path) -> None:
    file = tmp_path / "odd.py"
    file.write_text(
        "import torch\nimport superscaler as ss\n"
        "def step(model, batch):\n"
        "    y = model(batch)\n"
        "    return y.sum() + y.detach().renorm(1, 0, 1.0).sum()\n"
        "def workload():\n"
        "    return ss.Workload(step=step, model=torch.nn.Linear(4, 4), batch=torch.ones(2, 4),\n"
        "                       optimizer=lambda p: torch.optim.SGD(p, lr=0.1))\n"
    )
    text = passed("axes", f"{file}:workload").stdout
    assert "operators have no axis rule and are never split" in text
    assert "renorm.default (1)" in text


def test_compile_and_show(tmp_path: Path) -> None:
    plan = "hybrid(tp=2, pp=2, microbatches=2)"
    made = passed("compile", *GPT, "--plan", plan, "--devices", "4", "-o", tmp_path)
    assert "4, 2 distinct programs" in made.stdout
    assert f"superscaler launch {tmp_path} --nproc-per-node 4" in made.stdout
    assert (tmp_path / "rank_3.py").exists()
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["settings"]["layers"] == "2"
    shown = passed("show", tmp_path).stdout
    assert "ranks 0-1: " in shown
    assert "ranks 2-3: " in shown
    assert "all_reduce: layers.0.fc2." in shown
    assert passed("show", tmp_path, "--json").stdout.startswith("{")


def test_compile_as_data(tmp_path: Path) -> None:
    arguments = ("compile", *GPT, "--plan", "data_parallel(dp=2)", "-o", tmp_path, "--json")
    data = json.loads(passed(*arguments).stdout)
    assert (data["world_size"], data["programs"]) == (2, 1)
    assert "program_0.py" in data["files"]


def test_show_a_plan(tmp_path: Path) -> None:
    text = passed("show", "zero(dp=2, stage=3)").stdout
    assert "gather: use" in text
    (tmp_path / "mine.yaml").write_text(text)
    assert passed("show", tmp_path / "mine.yaml").stdout == text
    data = json.loads(passed("show", tmp_path / "mine.yaml", "--json").stdout)
    assert data["stages"] == [{"devices": [0, 1], "mesh": {"dp": 2}}]


def test_show_what_is_communicated() -> None:
    plan = "pipeline(pp=2, microbatches=2)"
    shown = passed("show", *GPT, "--plan", plan).stdout
    assert "from ranks" in shown
    data = json.loads(passed("show", *GPT, "--plan", plan, "--json").stdout)
    first = data["communication"][0]
    assert (first["sources"], first["targets"], first["kinds"]) == ([0], [1], ["move"])
    assert (first["num_bytes"], first["num_times"]) == (2 * 8 * 16 * 4, 2)


def test_verify() -> None:
    arguments = ("verify", *GPT, "--plan", "megatron(tp=2)", "--in-process", "--devices", "2")
    result = passed(*arguments)
    assert "equal: 2 ranks, 2 steps, float64" in result.stdout
    assert "note: " in result.stderr
    assert result.output.splitlines()[-1].startswith("equal: ")  # the verdict after the notes
    data = json.loads(passed(*arguments, "--json").stdout)
    assert data["ok"] is True
    assert data["largest_error"] < 1e-12


def test_verify_exits_with_1_above_tolerance() -> None:
    arguments = ("verify", *GPT, "--plan", "data_parallel(dp=2)", "--in-process")
    result = run(*arguments, "--dtype", "model", "--tolerance", "1e-30")
    assert result.exit_code == 1
    assert "NOT equal" in result.stdout


@pytest.mark.dist
def test_verify_in_processes() -> None:
    result = passed("verify", *GPT, "--plan", "zero(dp=2, stage=3)", "--steps", "3")
    assert "equal: 2 ranks, 3 steps" in result.stdout


def test_compile_says_how_good_the_solvers_order_is(tmp_path: Path) -> None:
    command = ["compile", *GPT, "--plan", "pipeline(pp=2, microbatches=4, order='auto')"]
    result = passed(*command, "--out", tmp_path / "text")
    assert "no order is shorter (on the cluster's costs)" in " ".join(result.stdout.split())
    found = json.loads(passed(*command, "--out", tmp_path / "json", "--json").stdout)
    assert found["order"]["status"] == "optimal"
    assert found["order"]["length_us"] == found["order"]["bound_us"] > 0


def test_compile_says_where_the_solver_put_the_stages(tmp_path: Path) -> None:
    plan = "pipeline(pp=2, microbatches=4, order='auto', placement='free')"
    result = passed("compile", *GPT, "--plan", plan, "--out", tmp_path)
    assert "note: stages placed by the solver (" in result.stderr
    assert "stage 1 on 1 from layers." in result.stderr
    assert "no order of these stages is shorter" in " ".join(result.stdout.split())
    assert "first: layers." in (tmp_path / "plan.yaml").read_text()


def test_a_time_limit_that_ends_the_search_keeps_the_best_order_and_says_so(tmp_path: Path) -> None:
    """In a memory that barely holds the step, where no order is proven the shortest at once."""
    stages = "".join(f"- devices: [{d}]\n" for d in range(4))
    (tmp_path / "plan.yaml").write_text(f"stages:\n{stages}microbatches: 8\norder: auto\n")
    model = (*GPT, "--set", "layers=4", "--set", "hidden=32", "--set", "batch=8")
    limited = ("--plan", tmp_path / "plan.yaml", "--time-limit", "0.2")
    command = ["simulate", *model, *limited, "--json", "--cluster"]
    found = json.loads(passed(*command, cluster_file(tmp_path, 1.0)).stdout)
    ample = max(ranks["peak_bytes"] for ranks in found["classes"]) / 1e9
    for part in (0.96, 0.94, 0.92, 0.9, 0.88, 0.86, 0.84, 0.82, 0.8):
        tight = cluster_file(tmp_path, part * ample)
        out = ("--out", tmp_path / "out", "--cluster", tight)
        result = run("compile", *model, *limited, *out)
        if result.exit_code == 0 and "the best order may be up to" in result.stderr:
            break
    assert "; the best order may be up to" in result.stderr
    assert "more time to know: --time-limit SECONDS, or schedule: {time_limit_s" in result.stderr
    assert "longer than the shortest" in " ".join(result.stdout.split())
    assert passed("verify", *model, "--plan", tmp_path / "out" / "plan.yaml")


def cluster_file(folder: Path, memory_gbytes: float) -> Path:
    """Four devices with so much memory each."""
    path = folder / "cluster.yaml"
    path.write_text(f"num_devices: 4\ndevice: {{memory_gbytes: {memory_gbytes:.9f}}}\n")
    return path

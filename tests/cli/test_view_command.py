"""`superscaler view` as a user calls it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import superscaler as ss
from superscaler.cli import app
from superscaler.simulate.json import simulation_to_json

ROOT = Path(__file__).parents[2]
SETTINGS = {"layers": "2", "hidden": "16", "heads": "2", "seq": "8", "batch": "4"}
WORKLOAD = f"{ROOT / 'examples/gpt.py'}:workload"
GPT = [WORKLOAD, *(f"--set={k}={v}" for k, v in SETTINGS.items())]
PLAN = "--plan=pipeline(pp=2, microbatches=2)"


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["view", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.stdout


def error(*arguments: object) -> str:
    """The one line that a user's mistake ends in."""
    result = CliRunner().invoke(app, ["view", *map(str, arguments)])
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return result.stderr.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def compiled() -> object:
    made = ss.load_workload(WORKLOAD, SETTINGS)
    graph = ss.trace(made.step, made.model, made.batch, made.optimizer)
    header = {"workload": WORKLOAD, "settings": SETTINGS}
    return ss.compile(graph, "pipeline(pp=2, microbatches=2)", header=header)


@pytest.fixture(scope="module")
def saved(compiled: object, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulation's JSON file."""
    path = tmp_path_factory.mktemp("view") / "step.json"
    path.write_text(simulation_to_json(compiled.simulate(name="gpt")))
    return path


@pytest.mark.parametrize("suffix", ["html", "json", "png", "svg", "txt"])
def test_the_pictures_kind_is_the_files(saved: Path, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / "new" / f"step.{suffix}"
    assert run(saved, "--out", out).strip() == str(out)
    first = {"html": b"<!DOCTYPE", "json": b'{"traceE', "png": b"\x89PNG", "svg": b"<?xml"}
    assert out.read_bytes().startswith(first.get(suffix, b"gpt: 2 ranks"))


def test_without_out_it_is_a_picture_of_characters(saved: Path) -> None:
    text = run(saved)
    assert "step time" in text
    assert "rank 0" in text


def test_a_workload_with_a_plan() -> None:
    assert "rank 1" in run(*GPT, PLAN)


def test_a_programs_folder(compiled: object, tmp_path: Path) -> None:
    compiled.save(tmp_path / "gpt")
    run(tmp_path / "gpt", "-o", tmp_path / "trace.json")
    names = {e["name"] for e in json.loads((tmp_path / "trace.json").read_text())["traceEvents"]}
    assert "forward_0" in names


def test_a_programs_folder_has_its_cluster(compiled: object, tmp_path: Path) -> None:
    graph = compiled.program.partition.graph
    header = {"workload": WORKLOAD, "settings": SETTINGS}
    plan, cluster = "pipeline(pp=2, microbatches=2)", ss.Cluster.load("h100x8")
    ss.compile(graph, plan, cluster, header=header).save(tmp_path)
    assert "h100x8" in run(tmp_path)
    assert "v100x32" in run(tmp_path, "--cluster", "v100x32")


def test_the_operator_graph(compiled: object, tmp_path: Path) -> None:
    compiled.save(tmp_path / "gpt")
    text = run(tmp_path / "gpt", "--format", "graph")
    assert text.startswith("<svg")
    assert "layers.1" in text


def test_what_is_not_there() -> None:
    assert error("nothing.json").startswith(
        "error: view nothing.json: no such file or folder; give"
    )


def test_a_workload_without_a_plan() -> None:
    assert "a workload needs --plan, such as" in error(WORKLOAD)


def test_a_file_of_no_kind(saved: Path) -> None:
    found = error(saved, "--out", "step.pdf")
    assert "no kind of picture ends in '.pdf'; use .html, " in found


def test_a_kind_without_a_file(saved: Path) -> None:
    assert error(saved, "--format", "png").endswith(
        "view --format png: say where it goes, with --out FILE"
    )


def test_a_graph_of_a_simulation(saved: Path) -> None:
    assert "a simulation has no operator graph; give a program's folder" in error(
        saved, "--format", "graph"
    )


def test_a_file_that_cannot_be_written(saved: Path) -> None:
    assert "cannot be written: " in error(saved, "--out", saved / "step.txt")


def test_a_file_that_is_no_simulation(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}")
    assert str(tmp_path / "x.json") in error(tmp_path / "x.json")


def test_a_program_that_does_not_say_its_workload(compiled: object, tmp_path: Path) -> None:
    compiled.save(tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    del manifest["workload"]
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert "the program does not say its workload; name the workload instead" in error(tmp_path)

"""Bad input, command by command: what is wrong and what to do, exit code 2, no traceback."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from superscaler.cli import app

ROOT = Path(__file__).parents[2]
GPT = [
    f"{ROOT / 'examples/gpt.py'}:workload",
    *(f"--set={s}" for s in ("layers=2", "hidden=16", "heads=2", "seq=8", "batch=4")),
]
PLAN = "--plan=pipeline(pp=2, microbatches=2)"
STAGES = "stages: [{devices: [0]}, {devices: [1]}]\nmicrobatches: 2\n"
FILES = {
    "negative.yaml": "num_devices: 2\ndevice: {memory_gbytes: -1}\n",
    "unit.yaml": "num_devices: 2\ndevice: {memory_gbytes: 80GB}\n",
    "half_link.yaml": "num_devices: 2\nlinks: [{name: a, latency_us: 1}]\n",
    "named_link.yaml": "num_devices: 2\nlinks: [nvlink]\n",
    "lane.yaml": "num_devices: 2\nlanes: [compute]\n",
    "tiny.yaml": "num_devices: 2\ndevice: {memory_gbytes: 0.0001}\n",
    "incomplete.yaml": STAGES + "order: [F0.0 F0.1 BW0.0 BW0.1, F1.0 F1.1]\n",
    "cyclic.yaml": STAGES + "order: [F0.0 F0.1 BW0.0 BW0.1, BW1.0 F1.0 F1.1 BW1.1]\n",
    "microbatch.yaml": STAGES + "order: [F0.0 F0.1 BW0.0 BW0.1, F1.0 F1.7 BW1.0 BW1.1]\n",
    "stage.yaml": STAGES + "order: [F0.0 F0.1 BW0.0 BW0.1, F7.0 F1.1 BW1.0 BW1.1]\n",
    "action.yaml": STAGES + "order: [F0.0 X3]\n",
    "row.json": '{"format": 1, "device": "x", "operators": [[1]], "links": []}',
    "other.json": '{"format": 1, "device": "h100-80g", "operators": [], "links": []}',
    "list.json": "[]",
    "cut.json": '{"format": 1, "na',
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with these files, and one without any."""
    path = tmp_path_factory.mktemp("bad")
    for name, text in FILES.items():
        (path / name).write_text(text)
    (path / "empty").mkdir()
    return path


def error(folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    """What is said on stderr from `error:` on."""
    monkeypatch.chdir(folder)
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return result.stderr.rpartition("error: ")[2]


@pytest.mark.parametrize(
    ("cluster", "message"),
    [
        ("negative.yaml", "line 2: device.memory_gbytes: expected a number above 0, found -1"),
        ("unit.yaml", "expected a number above 0, found '80GB'"),
        ("half_link.yaml", "line 2: links.0.gbytes_per_s: this field is missing"),
        ("named_link.yaml", "links.0: expected a mapping, found 'nvlink'"),
        ("lane.yaml", "line 2: lanes: unknown field; known: name, num_devices, device, links"),
        ("cpux1", "device 1 is out of range; the cluster has devices 0 to 0; use fewer devices"),
        ("empty", "no such file, and no shipped cluster of that name"),
    ],
)
def test_clusters(
    folder: Path, monkeypatch: pytest.MonkeyPatch, cluster: str, message: str
) -> None:
    assert message in error(folder, monkeypatch, "compile", *GPT, PLAN, "--cluster", cluster)


@pytest.mark.parametrize(
    ("plan", "messages"),
    [
        ("incomplete.yaml", ["order, line 2: BW1.0 is missing; give every task once"]),
        ("microbatch.yaml", ["line 2: there is no F1.7; the plan has stages 0 to 1 and micro"]),
        ("stage.yaml", ["line 2: there is no F7.0; the plan has stages 0 to 1 and microbatches"]),
        ("action.yaml", ["line 1: expected an action such as F0.3", "found 'X3'"]),
        ("cyclic.yaml", ["(order, line 2: BW1.0 F1.0)", "(data)", "remove one of the order"]),
    ],
)
def test_orders(
    folder: Path, monkeypatch: pytest.MonkeyPatch, plan: str, messages: list[str]
) -> None:
    said = error(folder, monkeypatch, "compile", *GPT, "--plan", plan)
    assert all(message in said for message in messages), said


def test_memory_that_is_too_small(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = "--plan=pipeline(pp=2, microbatches=2, order='auto')"
    said = error(folder, monkeypatch, "compile", *GPT, plan, "--cluster", "tiny.yaml")
    assert "device memory of device 0 cannot hold the step: at least " in said
    assert " more than its 100000\n" in said
    assert "shard them (zero), or use more stages or a device with more memory" in said


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        ("row.json", "profile row.json: not a profile (ValueError: not enough values"),
        ("list.json", "profile list.json: not a profile (TypeError"),
        ("cut.json", "write one with superscaler profile --out"),
        ("nothing.json", "profile 'nothing.json': no such file; make one with superscaler profile"),
        ("empty", "profile 'empty' cannot be read: Is a directory; give the file that"),
        ("other.json", "the profile was measured on h100-80g, the cluster's device is generic"),
        ("other.json", "use the cluster that superscaler profile wrote beside the profile (--clus"),
    ],
)
def test_profiles(
    folder: Path, monkeypatch: pytest.MonkeyPatch, profile: str, message: str
) -> None:
    assert message in error(folder, monkeypatch, "simulate", *GPT, PLAN, "--profile", profile)


@pytest.mark.parametrize("command", ["simulate", "view", "show", "launch"])
def test_a_folder_that_is_no_program(
    folder: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    said = error(folder, monkeypatch, command, "empty")
    assert "empty/manifest.json is missing: this is no program folder" in said


@pytest.mark.parametrize("file", ["list.json", "cut.json"])
def test_a_file_that_is_no_simulation(
    folder: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    said = error(folder, monkeypatch, "view", file)
    assert f"simulation '{file}': not a simulation (" in said
    assert "write one with superscaler simulate --out" in said


@pytest.mark.parametrize("command", ["trace", "axes"])
def test_settings(folder: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    said = error(folder, monkeypatch, command, GPT[0], "--set", "size=3")
    assert "it has no setting 'size'; its settings: layers, hidden" in said


@pytest.mark.parametrize(
    "command",
    [["compile", *GPT, PLAN, "-o", "list.json"], ["simulate", *GPT, PLAN, "-o", "list.json/x"]],
)
def test_what_cannot_be_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    assert "list.json" in error(folder, monkeypatch, *command)

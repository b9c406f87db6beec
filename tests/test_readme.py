"""README's first program, copied into an empty directory, works as written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parent.parent / "README.md").read_text()


def run(folder: Path, *command: str) -> list[str]:
    """The lines that a command prints in a folder."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def losses(lines: list[str]) -> dict[int, set[float]]:
    """By step: the losses printed for it."""
    found: dict[int, set[float]] = {}
    for step, loss in re.findall(r"step (\d+) loss (\d+\.\d{6})", "\n".join(lines)):
        found.setdefault(int(step), set()).add(float(loss))
    return found


@pytest.mark.dist
def test_the_first_program(tmp_path: Path) -> None:
    match = re.search(r"<!-- first program -->\n```python\n(.*?)```", README, re.DOTALL)
    assert match
    (tmp_path / "train.py").write_text(match[1])
    alone = losses(run(tmp_path, "train.py"))
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    both = losses(run(tmp_path, *torchrun, "train.py"))
    assert sorted(alone) == sorted(both) == list(range(20))
    for step, (loss,) in alone.items():
        assert all(abs(loss - other) <= 1e-4 * loss for other in both[step])
    assert min(alone[19]) < min(alone[0]) / 2


def test_its_plan_is_a_plan_that_ships() -> None:
    import superscaler as ss

    match = re.search(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert match
    plan = ss.Plan.load(Path(__file__).parent.parent / "plans" / "mixed.yaml")
    assert ss.Plan.from_yaml(match[1] + "name: mixed\n") == plan


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (Path(__file__).parent.parent / target).exists(), target

"""Predicted memory against what real processes count."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import superscaler as ss

ROOT = Path(__file__).parents[2]
GPT = f"{ROOT / 'examples/gpt.py'}:workload"


@pytest.mark.dist
@pytest.mark.parametrize(
    "plan", ["zero(dp=2, stage=3)", "pipeline(pp=2, microbatches=4, order='zb_h1')"]
)
def test_the_peak_is_as_counted(plan: str, tmp_path: Path) -> None:
    workload = ss.load_workload(GPT, {})
    graph = ss.trace(workload.step, workload.model, workload.batch, workload.optimizer)
    program = ss.compile(
        graph, plan, ss.Cluster.load("cpu4"), header={"workload": GPT, "settings": {}}
    )
    program.save(tmp_path)
    command = [sys.executable, "-m", "superscaler.cli", "launch", str(tmp_path)]
    done = subprocess.run(
        [*command, "--nproc-per-node", "2", "--steps", "2", "--memory"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    counted = dict(re.findall(r"rank (\d+): peak memory (\d+) bytes", done.stdout + done.stderr))
    assert sorted(counted) == ["0", "1"]
    predicted = {r: c.peak_bytes for c in program.simulate().classes for r in c.ranks}
    for rank, size in counted.items():
        assert int(size) == pytest.approx(predicted[int(rank)], rel=1e-3)

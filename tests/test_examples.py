"""The examples do what their docstrings say, at small sizes; the demonstration agrees."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import superscaler as ss

ROOT = Path(__file__).parent.parent
SMALL_GPT = {"layers": 2, "hidden": 32, "seq": 16, "batch": 8}
SMALL_LLAMA = {"layers": 2, "hidden": 32, "ffn": 64, "heads": 4, "kv_heads": 2, "seq": 16}


def python(*arguments: str, folder: Path = ROOT) -> str:
    """The output of a Python command, which has to succeed."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_gpt() -> None:
    gpt = ss.load_workload(
        f"{ROOT}/examples/gpt.py:workload", SMALL_GPT | {"tied": True, "clip": 1.0}
    )
    assert ss.verify(gpt, "megatron(tp=2)", processes=False).ok


def test_gpt_on_the_meta_device() -> None:
    gpt = ss.load_workload(f"{ROOT}/examples/gpt.py:workload", SMALL_GPT | {"meta": True})
    assert ss.verify(gpt, "zero(dp=2, stage=3)", processes=False).ok


def test_custom_operator() -> None:
    workload = ss.load_workload(f"{ROOT}/examples/custom_operator.py:workload", {})
    graph = ss.trace(workload.step, workload.model, workload.batch, workload.optimizer)
    own = [op for op in graph.operators if op.target.startswith("examples.squared_relu")]
    assert len(own) == 2
    program = ss.compile(graph, "megatron(tp=2)")
    assert "squared_relu" in program.files["program_0.py"]
    assert len(program.program.conversions) == 1  # after the second layer
    assert ss.verify(workload, "megatron(tp=2)", processes=False).ok


@pytest.mark.dist
def test_llama() -> None:
    llama = ss.load_workload(f"{ROOT}/examples/llama_hf.py:workload", SMALL_LLAMA)
    assert ss.verify(llama, "hybrid(dp=2, tp=2)", devices=4).ok


def test_custom_policy(tmp_path: Path) -> None:
    out = python(str(ROOT / "examples" / "custom_policy.py"), folder=tmp_path)
    assert out.startswith("equal: 3 ranks")
    assert (tmp_path / "build" / "custom" / "rank_2.py").exists()


@pytest.mark.dist
def test_demo(tmp_path: Path) -> None:
    out = python("tools/demo.py", "--steps", "6", "--out", str(tmp_path / "demo"))
    assert "losses: equal" in out
    assert (tmp_path / "demo" / "rank_3.py").exists()


@pytest.mark.dist
def test_a_training_script(tmp_path: Path) -> None:
    script, out = str(ROOT / "examples" / "training_script.py"), str(tmp_path / "out")
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", script)
    alone = python(script, "--out", out, "--steps", "10", folder=tmp_path)
    both = python(*torchrun, "--out", out, "--steps", "10", folder=tmp_path)
    assert alone.startswith("step 9 loss ")
    assert both == alone
    resumed = python(*torchrun, "--out", out, "--steps", "20", "--resume", folder=tmp_path)
    assert resumed == python(script, "--steps", "20", folder=tmp_path).split("\n", 1)[1]

"""torchrun -m superscaler.runtime: training, resuming, and every way a launch can go wrong."""

import json
import os
import subprocess
import sys
import time

import pytest
from emitted import free_port, linear_program

pytestmark = pytest.mark.dist

WORKLOAD = """
import torch
import superscaler as ss

class Linear(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.empty(6, 4, dtype=torch.float64))

    def reset_parameters(self):
        torch.nn.init.normal_(self.w)

def data():
    generator = torch.Generator().manual_seed(0)
    while True:
        yield torch.randn(ROWS, 6, dtype=torch.float64, generator=generator)

def workload(lr: float = 0.01):
    with torch.device("meta"):
        model = Linear()
    return ss.Workload(
        step=lambda model, batch: model(batch),
        model=model,
        optimizer=lambda p: torch.optim.AdamW(p, lr=lr),
        batch=torch.zeros(8, 6, dtype=torch.float64), data=data,
    )
"""


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "program", linear_program(2), WORKLOAD.replace("ROWS", "8"))


def write(folder, files, workload):
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    (folder / "workload.py").write_text(workload)
    return folder


def torchrun(folder, *options, processes=2, limit_s=60):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
    command += ["--master-port", str(free_port()), "-m", "superscaler.runtime", str(folder)]
    command += ["--workload", f"{folder / 'workload.py'}:workload", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=limit_s, env=quiet())


def quiet():
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}


def losses(path):
    return [json.loads(line)["loss"] for line in path.read_text().splitlines()]


def test_training_resumes_on_another_number_of_ranks(folder, tmp_path):
    whole, first, rest = (tmp_path / name for name in ("whole", "first", "rest"))
    result = torchrun(folder, "--steps", "4", "--json-log", str(whole), "--set", "lr=0.1")
    assert result.returncode == 0, result.stderr
    assert "step     4  loss" in result.stdout
    assert "samples/s" in result.stdout
    saved = ["--set", "lr=0.1", "--checkpoint", str(tmp_path / "saved")]
    result = torchrun(folder, *saved, "--steps", "2", "--json-log", str(first))
    assert result.returncode == 0, result.stderr
    other = write(tmp_path / "other", linear_program(1), WORKLOAD.replace("ROWS", "8"))
    more = [*saved, "--steps", "4", "--resume", "--json-log", str(rest)]
    result = torchrun(other, *more, processes=1)
    assert result.returncode == 0, result.stderr
    assert "resumed from" in result.stdout
    assert losses(first) + losses(rest) == pytest.approx(losses(whole), rel=1e-12)


def test_compiled_operators_train_the_same(folder, tmp_path):
    plain, compiled = tmp_path / "plain", tmp_path / "compiled"
    for path, more in ((plain, []), (compiled, ["--torch-compile"])):
        result = torchrun(folder, "--steps", "2", "--json-log", str(path), *more)
        assert result.returncode == 0, result.stderr
    assert losses(compiled) == pytest.approx(losses(plain), rel=1e-12)


def test_another_number_of_processes_is_refused(folder):
    result = torchrun(folder, processes=3)
    assert result.returncode
    assert "was compiled for 2 ranks, 3 were started; start it with `torchrun" in result.stderr


def test_a_failure_in_one_rank_ends_all_with_its_error(folder):
    code = (folder / "program_0.py").read_text()
    fails = 'if ctx.communicator.rank == 1: raise ValueError("mine")\n    dw = aten.mm'
    (folder / "program_0.py").write_text(code.replace("dw = aten.mm", fails))
    start = time.perf_counter()
    result = torchrun(folder)
    assert time.perf_counter() - start < 30
    assert result.returncode
    assert "rank 1, task backward_0 (0,), in linear, model.py:7, in forward" in result.stderr
    assert "ValueError: mine" in result.stderr


def test_a_batch_of_the_wrong_shape_is_refused(folder):
    (folder / "workload.py").write_text(WORKLOAD.replace("ROWS", "7"))
    result = torchrun(folder)
    assert result.returncode
    assert "x has shape [7, 6], the program was compiled for [8, 6]" in result.stderr


def test_a_missing_rank_is_named(folder):
    result = alone(folder, rank=0)
    assert result.returncode == 1
    assert "rank 0 waited 2 s for 1 of 2 ranks: missing 1; check that each" in result.stderr


def test_a_missing_first_rank_is_named(folder):
    result = alone(folder, rank=1)
    assert result.returncode == 1
    assert "where rank 0 or torchrun should be, within 2 s" in result.stderr


def alone(folder, rank):
    environment = {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    environment["MASTER_PORT"] = str(free_port())
    command = [sys.executable, "-m", "superscaler.runtime", str(folder), "--timeout", "2"]
    command += ["--workload", f"{folder / 'workload.py'}:workload"]
    environment = {**quiet(), **environment}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)


def test_a_blocked_rank_ends_soon_after_another_failed_without_torchrun(folder):
    code = (folder / "program_0.py").read_text()
    fails = "if ctx.communicator.rank == 1: raise ValueError('mine')\n    y = aten.mm"
    (folder / "program_0.py").write_text(code.replace("y = aten.mm", fails))
    port = str(free_port())
    command = [sys.executable, "-m", "superscaler.runtime", str(folder)]
    command += ["--workload", f"{folder / 'workload.py'}:workload"]
    variables = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = [
        subprocess.Popen(
            command,
            env={**quiet(), **variables, "RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    errors = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [1, 1]
    assert "ValueError: mine" in errors[1]
    assert "because rank 1 failed" in errors[0]

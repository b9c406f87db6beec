"""Ctrl-C while CP-SAT runs, in one thread or in two."""

import subprocess
import sys

import pytest
from ortools.sat.python import cp_model

from superscaler.schedule.solver.run import run

HARD = """
import os, random, signal, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from ortools.sat.python import cp_model
from superscaler.schedule.solver.run import run, stop
from superscaler.schedule.solver.settings import Settings

signal.signal(signal.SIGINT, signal.default_int_handler)
random.seed(0)
model = cp_model.CpModel()
variables = [model.new_bool_var(str(n)) for n in range(600)]
for _ in range(2556):  # 4.26 clauses a variable: as hard as they come
    some = random.sample(variables, 3)
    model.add_bool_or([v if random.random() < 0.5 else v.negated() for v in some])
begun = time.perf_counter()
threading.Timer(1.5, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
solvers = [Settings(200.0, 1, seed).solver() for seed in range(int(sys.argv[1]))]
with ThreadPoolExecutor() as pool:
    others = [pool.submit(run, solver, model) for solver in solvers[1:]]
    try:
        run(solvers[0], model)
    except KeyboardInterrupt:
        print("interrupted", time.perf_counter() - begun < 60)
    for running in others:
        stop(running, lambda: solvers[1:])
print("ended", time.perf_counter() - begun < 60)
"""


@pytest.mark.parametrize("solvers", [1, 2])
def test_ctrl_c_ends_a_search(solvers: int) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", HARD, str(solvers)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.stdout == "interrupted True\nended True\n", ended.stderr[-2000:]
    assert ended.returncode == 0


def test_errors_of_a_callback_come_out() -> None:
    class Fails(cp_model.CpSolverSolutionCallback):
        def on_solution_callback(self) -> None:
            raise ZeroDivisionError

    model = cp_model.CpModel()
    model.new_int_var(0, 1, "x")
    with pytest.raises(ZeroDivisionError):
        run(cp_model.CpSolver(), model, Fails())

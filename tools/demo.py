"""The demonstration: a GPT compiled for 4 ranks, trained on English text, beside one process.

    python tools/demo.py [--steps 60] [--out build/demo]

The 4 processes are 2 pipeline stages of 2 tensor-parallel ranks, 1F1B with 4 microbatches. The
single process is a plain PyTorch loop over the same model and text, without SuperScaler. Exits
with 1 when a loss differs by more than float32 explains.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch

import superscaler as ss

ROOT = Path(__file__).resolve().parent.parent
WORKLOAD = f"{ROOT / 'examples' / 'gpt.py'}:workload"
PLAN = ROOT / "plans" / "tp2_pp2.yaml"
TOLERANCE = 1e-3
SHOWN_EVERY = 5


def main() -> int:
    """Compile, train both, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "demo")
    options = parser.parse_args()
    torch.set_num_threads(1)
    start = time.perf_counter()

    heading(f"compiling examples/gpt.py under plans/{PLAN.name}")
    run("compile", WORKLOAD, "--plan", str(PLAN), "--devices", "4", "--out", str(options.out))

    heading(f"training it in one process, {options.steps} steps of plain PyTorch")
    alone = train_alone(options.steps)

    heading("training it in 4 processes: 2 stages x 2 tensor-parallel ranks, 1F1B, 4 microbatches")
    print(f"{'step':>6}  {'4 ranks':>9}  {'1 process':>9}  difference", flush=True)
    worst = 0.0
    for record in train_ranks(options.out, options.steps):
        step, loss = record["step"], record["loss"]
        difference = abs(loss - alone[step - 1])
        worst = max(worst, difference)
        if step % SHOWN_EVERY == 0 or step == 1:
            print(f"{step:>6}  {loss:9.4f}  {alone[step - 1]:9.4f}  {difference:.1e}", flush=True)

    heading(f"done in {time.perf_counter() - start:.0f} s")
    folder = Path(os.path.relpath(options.out))
    verdict = "equal" if worst < TOLERANCE else "NOT EQUAL"
    print(f"losses: {verdict}, largest difference {worst:.1e} in float32")
    print(f"code:   {folder}/program_*.py, one for ranks that run the same")
    print(f"next:   superscaler show {folder}")
    print(f"        superscaler verify examples/gpt.py:workload --plan plans/{PLAN.name}")
    return 0 if worst < TOLERANCE else 1


def heading(text: str) -> None:
    """A line that stands out."""
    print(f"\n== {text}", flush=True)


def command(*arguments: str) -> list[str]:
    """The command line of `superscaler` with these arguments."""
    return [sys.executable, "-m", "superscaler.cli", *arguments]


def run(*arguments: str) -> None:
    """Run `superscaler` with these arguments; raises CalledProcessError when it fails."""
    subprocess.run(command(*arguments), check=True, env=environment())


def environment() -> dict[str, str]:
    """One thread for each process."""
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def train_alone(steps: int) -> list[float]:
    """The losses of the untouched model under plain PyTorch."""
    workload = ss.load_workload(WORKLOAD)
    assert workload.data is not None
    optimizer = workload.optimizer(workload.model.parameters())
    losses = []
    start = time.perf_counter()
    for batch in islice(workload.data(), steps):
        optimizer.zero_grad()
        loss = workload.step(workload.model, batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if len(losses) % SHOWN_EVERY == 0 and sys.stdout.isatty():
            print(f"\rstep {len(losses):>4}  loss {losses[-1]:.4f}", end="", flush=True)
    print(f"\rloss {losses[0]:.4f} -> {losses[-1]:.4f} in {time.perf_counter() - start:.0f} s")
    return losses


def train_ranks(folder: Path, steps: int) -> Iterator[dict[str, float]]:
    """Launch the program's ranks; what they log, as it comes. Raises CalledProcessError."""
    log = folder / "log.jsonl"
    log.write_text("")
    arguments = ["--steps", str(steps), "--log-every", str(steps + 1), "--json-log", str(log)]
    launch = command("launch", str(folder), "--nproc-per-node", "4", *arguments)
    process = subprocess.Popen(launch, env=environment())
    try:
        with log.open() as lines:
            while True:
                has_ended = process.poll() is not None
                yield from (json.loads(line) for line in lines)
                if has_ended:
                    break
                time.sleep(0.2)
    finally:
        if process.poll() is None:
            process.terminate()
    if process.wait():
        raise subprocess.CalledProcessError(process.returncode, launch)


if __name__ == "__main__":
    sys.exit(main())

"""A whole training script: data of several lengths, a learning-rate schedule, clipping,
validation, checkpoints. The same file on one process and on many:

    python examples/training_script.py
    torchrun --nproc-per-node 2 examples/training_script.py
    torchrun --nproc-per-node 2 examples/training_script.py --steps 60 --resume

A checkpoint loads under any plan and number of processes.
"""

from __future__ import annotations

import argparse
import os

import torch
from gpt import GPT, Sizes, batches, step

import superscaler as ss

SIZES = Sizes(layers=2, hidden=64, heads=4, seq=64, batch=16)
LENGTHS = (32, 64)  # the step is compiled once for each

train_step = ss.parallelize(
    plan="hybrid(dp=2, zero=2, microbatches=2)",
    optimizer=lambda parameters: torch.optim.AdamW(parameters, lr=1e-3),
    clip_grad_norm=1.0,
)(step)


def batch_of(number: int) -> dict[str, torch.Tensor]:
    """The same on every process; each works on its part."""
    return next(batches(SIZES.batch, LENGTHS[number % len(LENGTHS)], seed=number))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--out", default="build/training_script")
    parser.add_argument("--resume", action="store_true")
    options = parser.parse_args()

    torch.manual_seed(0)
    model = GPT(SIZES, tied=True, dropout=0.1, fused=True)
    if options.resume:
        train_step.load(options.out)
    train_step.prepare(model, batch_of(0))
    done = train_step.step_number  # of the checkpoint, or 0
    schedule = torch.optim.lr_scheduler.LambdaLR(
        train_step.optimizer, lambda n: min(1.0, (n + 1) / 10), last_epoch=done - 1
    )
    for number in range(done, options.steps):
        loss = train_step(model, batch_of(number))
        schedule.step()
        if number % 10 == 9:
            train_step.sync(model)  # the trained weights, on every process
            with torch.no_grad():
                validation = step(model.eval(), batch_of(1_000_000))
            model.train()
            if os.environ.get("RANK", "0") == "0":
                norm = train_step.grad_norm
                print(f"step {number} loss {loss:.4f} norm {norm:.3f} validation {validation:.4f}")
    train_step.save(options.out)


if __name__ == "__main__":
    main()

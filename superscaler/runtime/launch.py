"""`python -m superscaler.runtime`: what every process of a launch does."""

from __future__ import annotations

import argparse
import math
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.distributed.elastic.multiprocessing.errors import get_error_handler

from superscaler.dtypes import CAST_WORDS, cast_dtype
from superscaler.errors import SuperScalerError
from superscaler.runtime.checkpoint import load_checkpoint
from superscaler.runtime.data import as_dtype
from superscaler.runtime.executor import RankExecutor
from superscaler.runtime.failures import LaunchError, ProgramError, WorldSizeError
from superscaler.runtime.initialize import (
    initial_weights,
    load_state_file,
    materialize_empty,
)
from superscaler.runtime.program import RankProgram, load_rank, read_manifest
from superscaler.runtime.train import Trainer
from superscaler.runtime.world import Launch, World, check_world_size
from superscaler.workload import Workload, cast, load_workload


def main(arguments: Sequence[str] | None = None) -> None:
    """Train an emitted program; on an error, print it, tell the other ranks, and exit with 1."""
    options = parse(arguments)
    launch = Launch.from_environment()
    with _Ending(launch) as ending:
        manifest = read_manifest(options.folder)
        check_world_size(launch, int(manifest["world_size"]), str(options.folder))
        program = load_rank(options.folder, launch.rank, options.torch_compile)
        say = _say if launch.rank == 0 else _be_quiet
        workload = _workload(options, program, say)
        say(f"meeting {launch.world_size} rank{'s' if launch.world_size > 1 else ''}")
        ending.world = World(launch, options.timeout)
        executor = RankExecutor(
            program,
            ending.world.communicator(manifest.get("groups", ())),
            optimizer=workload.optimizer,
            device=ending.world.device,
            seed=workload.seed,
        )
        trainer = Trainer(executor, workload, options)
        say("filling the weights")
        if not trainer.resume():
            initialise(executor, workload, options.weights)
        trainer.run()
        ending.world.close()


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="torchrun --nproc-per-node N -m superscaler.runtime",
        description="Train a compiled program: one process per rank.",
    )
    add = parser.add_argument
    add("folder", type=Path, help="the program's folder, as `superscaler compile` wrote it")
    add("--workload", metavar="FILE.py:callable", help="default: the one it was compiled from")
    add("--set", metavar="KEY=VALUE", action="append", default=[], help="the workload's settings")
    add("--dtype", type=_dtype, help=f"{CAST_WORDS}: cast model and batches, as compiled")
    add("--steps", type=_at_least(0), default=10, help="how many steps to train (default: 10)")
    add("--seed", type=int, help="of weights and random operators (default: the workload's)")
    add("--weights", type=Path, help="a checkpoint folder or state-dict file to begin with")
    add("--checkpoint", type=Path, help="the folder of checkpoints")
    add(
        "--save-every",
        type=_at_least(0),
        default=0,
        help="steps between checkpoints; 0: at the end only",
    )
    add("--resume", action="store_true", help="continue from the last checkpoint")
    add("--log-every", type=_at_least(1), default=1, help="steps between printed lines")
    add("--json-log", type=Path, help="append one JSON object per step to this file")
    add(
        "--torch-compile",
        action="store_true",
        help="operators between communication go through torch.compile, at the first step",
    )
    add("--memory", action="store_true", help="count the bytes of tensors; slows a CPU down")
    add("--timeout", type=_seconds, default=60.0, help="seconds to wait for the other ranks")
    options = parser.parse_args(arguments)
    if (options.resume or options.save_every) and options.checkpoint is None:
        parser.error("--resume and --save-every need --checkpoint FOLDER")
    return options


def _at_least(least: int) -> Callable[[str], int]:
    """Reads a whole number of `least` or more."""

    def read(text: str) -> int:
        number = text.strip().removeprefix("-")
        if not number.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(
                f"expected a whole number of {least} or more, found {text!r}"
            )
        return int(text)

    return read


def _dtype(text: str) -> str:
    """Reads a dtype that a model can be cast to."""
    name = cast_dtype(text)
    if name is None:
        raise argparse.ArgumentTypeError(f"expected {CAST_WORDS}, found {text!r}")
    return name


def _seconds(text: str) -> float:
    """Reads seconds above 0."""
    seconds = float(text)
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"expected seconds above 0, found {text!r}")
    return seconds


def initialise(executor: RankExecutor, workload: Workload, weights: Path | None) -> None:
    """Fill the rank's weights: from `weights`, or from the model.

    A model on the meta device gets them as the workload's `init` says, or by the model's code.
    """
    held = (*workload.model.parameters(), *workload.model.buffers())
    source = workload.init if any(x.is_meta for x in held) else None
    source = source if weights is None else weights
    if isinstance(source, (str, Path)) and Path(source).is_dir():
        load_checkpoint(executor, source)
        executor.step_number = 0
    elif isinstance(source, (str, Path)):
        executor.load_weights(load_state_file(source))
    elif source is not None:
        model = materialize_empty(workload.model)
        torch.manual_seed(executor.seed)
        with torch.no_grad():
            source(model)
        executor.load_weights(initial_weights(model))
    else:
        wanted = {placed.name for placed, _ in executor.placed_values()}
        executor.load_weights(initial_weights(workload.model, executor.seed, wanted))


def _say(text: str) -> None:
    """What goes on before the first step, which may take a minute."""
    print(f"{text} ...", file=sys.stderr, flush=True)


def _be_quiet(text: str) -> None:
    """Rank 0 speaks for all."""


def _workload(
    options: argparse.Namespace, program: RankProgram, say: Callable[[str], None]
) -> Workload:
    name = options.workload or program.manifest.get("workload")
    if not name:
        raise ProgramError(
            f"{options.folder} does not say what it was compiled from; give --workload "
            "FILE.py:callable"
        )
    settings: dict[str, Any] = dict(program.manifest.get("settings") or {})
    for setting in options.set:
        key, equals, value = setting.partition("=")
        if not equals:
            raise LaunchError(f"--set {setting}: write --set key=value")
        settings[key] = value
    say(f"loading {name}")
    workload = load_workload(name, settings)
    if options.seed is not None:
        workload = replace(workload, seed=options.seed)
    return cast(workload, as_dtype(options.dtype)) if options.dtype else workload


class _Ending:
    """A context that ends this process at once on an error, with a message for a person to read.

    Leaving by `os._exit` keeps threads of the communication library, which may be blocked, from
    holding the process; the elastic error handler's file is what torchrun prints.
    """

    def __init__(self, launch: Launch) -> None:
        self.world: World | None = None
        self._rank = launch.rank
        self._handler = get_error_handler()
        self._handler.initialize()

    def __enter__(self) -> _Ending:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is None or isinstance(error, SystemExit):
            return
        told = self.world.tell_failure(str(error)) if self.world is not None else None
        if told is None:
            self._handler.record_exception(error)
            self._print(error)
        else:
            print(told, file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(130 if isinstance(error, KeyboardInterrupt) else 1)

    def _print(self, error: BaseException) -> None:
        if isinstance(error, WorldSizeError) and self._rank:
            return  # rank 0 says the same
        if not isinstance(error, SuperScalerError):
            traceback.print_exception(error)
        elif error.__cause__ is not None:
            traceback.print_exception(error.__cause__)
        print(f"rank {self._rank}: error: {error}", file=sys.stderr)

"""The ranks as real processes that talk over Gloo."""

from __future__ import annotations

import os
import pickle
import tempfile
import time
import traceback
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import wait
from multiprocessing.context import ForkProcess
from pathlib import Path

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import FileStore

from superscaler.errors import SuperScalerError, VerifyError
from superscaler.runtime.executor import OptimizerFactory
from superscaler.runtime.failures import PeerFailure
from superscaler.runtime.processes import ProcessCommunicator
from superscaler.runtime.program import RankProgram, Source, load_rank, read_manifest
from superscaler.verify.expected import Expected
from superscaler.verify.ranks import RankResult, train_rank


def train_in_processes(
    source: Source,
    expected: Expected,
    optimizer: OptimizerFactory,
    timeout: float,
    torch_compile: bool = False,
) -> list[RankResult]:
    """Every rank in a process of its own.

    The processes are forked, so that an optimizer that is a lambda, which cannot be pickled,
    reaches them; they run no autograd, and use one thread, which a fork allows.

    Raises VerifyError with the error of the first rank that fails, or with the ranks that have not
    finished after `timeout` seconds.
    """
    world_size = int(read_manifest(source)["world_size"])
    with tempfile.TemporaryDirectory(prefix="superscaler-verify-") as folder:

        def run(rank: int) -> None:
            with _Ending(rank, Path(folder)):
                torch.set_num_threads(1)
                program = load_rank(source, rank, torch_compile)
                _run_rank(program, Path(folder), expected, optimizer, timeout)

        _let_threads_end()
        processes = [_start(run, rank) for rank in range(world_size)]
        try:
            _join(processes, Path(folder), timeout)
        finally:
            _end(processes)
        return [_read(Path(folder) / f"{rank}.result") for rank in range(world_size)]


def _let_threads_end() -> None:
    """Wait until the number of this process's threads has stayed the same for a while.

    A thread that was joined may still be leaving, and hold the lock of MKL's memory manager, which
    the forked processes would then wait for, for ever (seen with torch 2.13).
    """
    tasks = Path("/proc/self/task")
    counts: list[int] = []
    while tasks.exists() and len(counts) < 200:
        counts.append(len(list(tasks.iterdir())))
        if counts[-10:] == 10 * counts[-1:]:
            return
        time.sleep(0.01)


def _start(run: Callable[[int], None], rank: int) -> ForkProcess:
    process = get_context("fork").Process(target=run, args=(rank,), daemon=True)
    process.start()
    return process


def _run_rank(
    program: RankProgram,
    folder: Path,
    expected: Expected,
    optimizer: OptimizerFactory,
    timeout: float,
) -> None:
    """What a rank's process does."""
    rank, world_size = program.rank, program.world_size
    store = FileStore(str(folder / "store"), world_size)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world_size)
    communicator = ProcessCommunicator(program.manifest.get("groups", ()), timeout)
    result = train_rank(program, communicator, expected, optimizer)
    communicator.finish_sends()
    torch.save(result, folder / f"{rank}.partial")
    (folder / f"{rank}.partial").rename(folder / f"{rank}.result")
    dist.barrier()


class _Ending:
    """A context that ends the process, by `os._exit`, past what the parent had open, leaving behind
    what it raised."""

    def __init__(self, rank: int, folder: Path) -> None:
        self._path = folder / f"{rank}.error"

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None:
            is_ours = isinstance(error, SuperScalerError)
            text = str(error) if is_ours else "".join(traceback.format_exception(error))
            record = (time.time(), isinstance(error, PeerFailure) or not is_ours, text)
            self._path.write_bytes(pickle.dumps(record))
        os._exit(0 if error is None else 1)


def _join(processes: list[ForkProcess], folder: Path, timeout: float) -> None:
    """Wait until all have finished; raise as soon as one has failed."""
    deadline = time.monotonic() + timeout
    running = dict(enumerate(processes))
    while running:
        left = deadline - time.monotonic()
        if left <= 0:
            raise VerifyError(
                f"ranks {', '.join(map(str, running))} did not finish within {timeout:g} s; run "
                "in one process (--in-process, processes=False) to see which calls they wait in"
            )
        wait([process.sentinel for process in running.values()], left)
        for rank, process in list(running.items()):
            if process.exitcode is not None:
                del running[rank]
        if any(process.exitcode for process in processes if process.exitcode is not None):
            _raise_failure(processes, folder)


def _raise_failure(processes: list[ForkProcess], folder: Path) -> None:
    """Raise the error of the rank that failed, not of one that lost its peer."""
    time.sleep(0.2)  # the others may be about to say what they met
    found = []
    for rank in range(len(processes)):
        path = folder / f"{rank}.error"
        if path.exists():
            when, is_secondary, text = pickle.loads(path.read_bytes())
            found.append((is_secondary, when, rank, text))
    if found:
        _, _, rank, text = min(found)
        raise VerifyError(f"rank {rank} failed: {text.rstrip()}")
    dead = {rank: p.exitcode for rank, p in enumerate(processes) if p.exitcode}
    raise VerifyError(
        "; ".join(f"rank {rank} died with exit code {code}" for rank, code in dead.items())
    )


def _end(processes: list[ForkProcess]) -> None:
    for process in processes:
        if process.exitcode is None:
            process.kill()
        process.join()


def _read(path: Path) -> RankResult:
    result = torch.load(path, weights_only=False)
    assert isinstance(result, RankResult)
    return result

"""Runs emitted programs: torch and the standard library only."""

from superscaler.runtime.communicator import Communicator
from superscaler.runtime.executor import RankExecutor
from superscaler.runtime.failures import RuntimeFailure
from superscaler.runtime.local import run_ranks_in_threads
from superscaler.runtime.program import RankProgram, Task, load_rank, load_ranks, read_manifest

__all__ = [
    "Communicator",
    "RankExecutor",
    "RankProgram",
    "RuntimeFailure",
    "Task",
    "load_rank",
    "load_ranks",
    "read_manifest",
    "run_ranks_in_threads",
]

"""A world that closes leaves no thread behind that could hold a tensor while Python ends."""

from __future__ import annotations

import threading
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch
from emitted import free_port

from superscaler.runtime.world import Launch, World

pytestmark = pytest.mark.dist

THREADS = Path("/proc/self/task")


def names_of_threads() -> list[str]:
    return sorted((thread / "comm").read_text().strip() for thread in THREADS.iterdir())


def enter_and_leave(rank: int, port: int, results: str) -> None:
    world = World(Launch(rank, 2, rank, "127.0.0.1", port, "0", has_agent_store=False), 60.0)
    communicator = world.communicator([[0, 1], [1]])
    communicator.all_reduce(torch.ones(3), (0, 1), "sum").wait()
    inside = names_of_threads()
    world.close()
    others = [t.name for t in threading.enumerate() if t is not threading.main_thread()]
    torch.save((inside, names_of_threads(), others), f"{results}/{rank}")


@pytest.mark.skipif(not THREADS.exists(), reason="threads have names under Linux's /proc")
def test_a_world_that_closes_ends_its_threads(tmp_path: Path) -> None:
    context: Any = get_context("spawn")
    arguments = (free_port(), str(tmp_path))
    processes = [context.Process(target=enter_and_leave, args=(r, *arguments)) for r in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    for rank in (0, 1):
        inside, after, others = torch.load(tmp_path / str(rank))
        assert any("gloo" in name for name in inside)
        assert not [name for name in after if "gloo" in name]
        assert others == []

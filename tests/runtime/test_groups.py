"""Groups of processes: found by all members, whatever else these belong to, in any order."""

from __future__ import annotations

from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from superscaler.runtime.processes import ProcessCommunicator, destroy_groups

pytestmark = pytest.mark.dist

N = 4
GROUPS = [[0, 1], [0, 2], [1, 3], [2, 3], [3, 0, 1], [1, 0], [2, 0, 3, 1]]


def collectives(rank: int, store: str, results: str) -> None:
    """Every collective on every group of the rank, with values that tell who sent what to whom."""
    dist.init_process_group("gloo", store=dist.FileStore(store, N), rank=rank, world_size=N)
    communicator = ProcessCommunicator(GROUPS, timeout=30)
    found = {}
    for group in map(tuple, GROUPS):
        if rank in group:
            mine = torch.tensor([rank])
            to = torch.tensor([[10 * rank + other] for other in group])
            found[group] = [
                communicator.all_reduce(2**mine, group, "sum").wait().tolist(),
                communicator.all_gather(mine, group).wait().flatten().tolist(),
                communicator.all_to_all(to, group).wait().flatten().tolist(),
                communicator.reduce_scatter(to, group, "sum").wait().tolist(),
            ]
    communicator.close()
    destroy_groups()
    torch.save(found, f"{results}/{rank}")


def expected(rank: int, group: tuple[int, ...]) -> list[list[int]]:
    from_all = [10 * other + rank for other in group]
    return [[sum(2**other for other in group)], list(group), from_all, [sum(from_all)]]


def test_groups_in_any_order_and_number(tmp_path: Path) -> None:
    context = get_context("fork")
    arguments = (str(tmp_path / "store"), str(tmp_path))
    processes = [context.Process(target=collectives, args=(r, *arguments)) for r in range(N)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        process.kill()
    for rank in range(N):
        groups = [tuple(group) for group in GROUPS if rank in group]
        found = torch.load(tmp_path / str(rank))
        assert found == {group: expected(rank, group) for group in groups}

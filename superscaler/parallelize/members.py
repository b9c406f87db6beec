"""The processes of a script that torchrun started: how they meet, agree, and end together."""

from __future__ import annotations

import atexit
import hashlib
import json
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.utils._pytree import tree_leaves

from superscaler.errors import ParallelizeError
from superscaler.runtime.communicator import Communicator
from superscaler.runtime.failures import PeerFailure
from superscaler.runtime.program import Source
from superscaler.runtime.world import Launch, World, tell_failure_alone

_COMPILE_TIMEOUT = timedelta(hours=2)
_TELL_TIMEOUT_S = 5.0
_GRACE_S = 1.0  # for the process that failed first to say so, before this one ends
_EXIT_TIMEOUT_S = 30.0  # then torchrun deals with the process that has not come
_NUM_SAMPLED = 4096  # elements of a tensor that are compared

_world: World | None = None  # a process is in one world, whatever number of steps it trains
_num_meetings = 0


def is_told_elsewhere(message: str) -> bool:
    """Whether another process failed first, and so tells of it, which it is given time for: that
    the first process ends is torchrun's signal to end all. The others hear of this failure."""
    if _world is not None:
        first = _world.tell_failure(message)
    else:
        first = tell_failure_alone(Launch.from_environment(), message, _TELL_TIMEOUT_S)
    if first is not None:
        time.sleep(_GRACE_S)
    return first is not None


class Members:
    """This process's view of the others; without a world it is alone."""

    def __init__(self, world: World | None, number: int = 0) -> None:
        self._world = world
        self._number, self._num_gatherings = number, 0
        self._prefix = f"parallelize/{number}"

    @staticmethod
    def meet(launch: Launch, timeout: float) -> Members:
        """Wait for the other processes, the first time; raises LaunchError if they do not come."""
        global _world, _num_meetings
        if _world is None:
            _world = World(launch, timeout)
            atexit.register(_leave, _world)
        _num_meetings += 1
        return Members(_world, _num_meetings)

    @property
    def rank(self) -> int:
        return 0 if self._world is None else self._world.launch.rank

    @property
    def device(self) -> torch.device:
        if self._world is not None:
            return self._world.device
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def communicator(self, groups: Iterable[Sequence[int]]) -> Communicator | None:
        """The communicator with these groups of ranks; None for a process alone."""
        return None if self._world is None else self._world.communicator(groups)

    def share(self, make: Callable[[], tuple[Source, str]]) -> tuple[Source, str]:
        """What rank 0 makes: a program, in a folder if this process can read it, or its files."""
        if self._world is None:
            return make()
        store, key = self._world.store, f"{self._prefix}/program"
        if self.rank == 0:
            source, how = make()
            files = _read_files(source)
            store.set(f"{key}/files", zlib.compress(json.dumps(files).encode()))
            folder = "" if isinstance(source, Mapping) else str(Path(source).resolve())
            store.set(key, json.dumps([folder, _files_digest(files)]))
            return source, how
        store.wait([key], _COMPILE_TIMEOUT)
        folder, expected = json.loads(store.get(key))
        path = Path(folder)
        if folder and path.is_dir() and _files_digest(_read_files(path)) == expected:
            return path, "shared"
        received: dict[str, str] = json.loads(zlib.decompress(store.get(f"{key}/files")))
        return received, "shared"

    def gather(self, what: str, timeout: float) -> None:
        """Wait until every rank is here, to share something new.

        Raises ParallelizeError for ranks that do not come; `what` is why this one did.
        """
        if self._world is None:
            return
        self._num_gatherings += 1
        self._prefix = f"parallelize/{self._number}/{self._num_gatherings}"
        store, size = self._world.store, self._world.launch.world_size
        store.set(f"{self._prefix}/here/{self.rank}", "")
        absent = []
        for rank in range(size):
            try:
                store.wait([f"{self._prefix}/here/{rank}"], timedelta(seconds=timeout))
            except dist.DistError:
                absent.append(str(rank))
        if absent:
            raise ParallelizeError(
                f"rank {self.rank} has {what}, and rank {', '.join(absent)} has not within "
                f"{timeout:g} s; every process gives each call the same global batch"
            )

    def check_equal(self, what: str, tree: Any, turn: int = 0) -> None:
        """Raise ParallelizeError if this process's tensors are not those of rank 0.

        `turn`: how often they were changed since they were made.
        """
        if self._world is None:
            return
        store, key = self._world.store, f"{self._prefix}/{what}/{turn}"
        mine = _tensors_digest(tree)
        if self.rank == 0:
            store.set(key, mine)
        elif store.get(key).decode() != mine:
            way = f"set the seed (torch.manual_seed) before the {what} is made"
            raise ParallelizeError(
                f"rank {self.rank} has another {what} than rank 0; every process must make the "
                f"same {what}: {'change it alike on all of them' if turn else way}"
            )

    @contextmanager
    def sharing_failure(self) -> Iterator[None]:
        """What is raised inside ends the other processes too, with the same message."""
        try:
            yield
        except BaseException as error:
            told = None if self._world is None else self._world.tell_failure(str(error))
            if told is not None:
                raise PeerFailure(told) from error
            raise


def _read_files(source: Source) -> dict[str, str]:
    if isinstance(source, Mapping):
        return dict(source)
    return {
        path.name: path.read_text() for path in sorted(Path(source).iterdir()) if path.is_file()
    }


def _files_digest(files: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


def _tensors_digest(tree: Any) -> str:
    """A digest of the first elements of every tensor."""
    found = hashlib.sha256()
    for leaf in tree_leaves(tree):
        if isinstance(leaf, torch.Tensor) and not leaf.is_meta:
            sample = leaf.detach().reshape(-1)[:_NUM_SAMPLED].to("cpu", copy=True).contiguous()
            found.update(str(tuple(leaf.shape)).encode())
            found.update(bytes(sample.view(torch.uint8).tolist()) if sample.numel() else b"")
    return found.hexdigest()


def _leave(world: World) -> None:
    """At the end of the script: after an error tell the others; else wait for them a while."""
    error = getattr(sys, "last_value", None)
    if error is not None:
        world.tell_failure(f"{type(error).__name__}: {error}")
        return
    world.close(_EXIT_TIMEOUT_S)

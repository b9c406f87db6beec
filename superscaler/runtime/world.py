"""Joining the processes of a launch into one world, and ending them together."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import PrefixStore, TCPStore

from superscaler.runtime.failures import LaunchError, WorldSizeError
from superscaler.runtime.processes import ProcessCommunicator, destroy_groups

_GRACE_S = 3.0  # for a rank to say itself why it ends, once another has failed
_FAILED = "superscaler/failed"


@dataclass(frozen=True)
class Launch:
    """What the launcher told this process."""

    rank: int
    world_size: int
    local_rank: int
    host: str
    port: int
    attempt: str  # torchrun counts restarts
    has_agent_store: bool  # torchrun hosts the store, else rank 0 does

    @staticmethod
    def from_environment(environment: Mapping[str, str] = os.environ) -> Launch:
        """Read the variables that torchrun sets; without them, this is the only process."""
        return Launch(
            rank=int(environment.get("RANK", "0")),
            world_size=int(environment.get("WORLD_SIZE", "1")),
            local_rank=int(environment.get("LOCAL_RANK", "0")),
            host=environment.get("MASTER_ADDR", "127.0.0.1"),
            port=int(environment.get("MASTER_PORT", "29500")),
            attempt=environment.get("TORCHELASTIC_RESTART_COUNT", "0"),
            has_agent_store=environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
        )


def check_world_size(launch: Launch, expected: int, program: str) -> None:
    """Raise WorldSizeError unless as many processes were started as the program has ranks."""
    if launch.world_size == expected:
        return
    raise WorldSizeError(
        f"{program} was compiled for {expected} ranks, {launch.world_size} were started; start "
        f"it with `torchrun --nproc-per-node {expected} -m superscaler.runtime {program}` (over "
        f"several nodes, nodes times processes per node is {expected}), or compile it for "
        f"{launch.world_size} devices"
    )


class World:
    """The process group of a launch, and the watch over the other ranks."""

    def __init__(self, launch: Launch, timeout_s: float) -> None:
        """Meet the other ranks.

        Raises LaunchError naming the ranks that have not come within `timeout_s`.
        """
        self.launch = launch
        self.device = _device(launch)
        self._store = _of_attempt(launch, _store(launch, timeout_s))
        _meet(self._store, launch, timeout_s)
        is_cuda = self.device.type == "cuda"
        dist.init_process_group(
            "nccl" if is_cuda else "gloo",
            store=PrefixStore("group", self._store),
            rank=launch.rank,
            world_size=launch.world_size,
            timeout=timedelta(minutes=30),
            device_id=self.device if is_cuda else None,
        )
        self._watcher = self._watch()
        self._communicators: list[ProcessCommunicator] = []

    @property
    def store(self) -> Any:
        """The store that the ranks of this launch share."""
        return self._store

    def communicator(self, groups: Any = ()) -> ProcessCommunicator:
        """The communicator, with the groups of the program's manifest."""
        self._communicators.append(ProcessCommunicator(groups))
        return self._communicators[-1]

    def tell_failure(self, message: str) -> str | None:
        """Tell the other ranks that this one failed, unless another one was first.

        Returns what to say of the first failure if it is another rank's.
        """
        return _tell(self._store, self.launch, message)

    def close(self, timeout_s: float | None = None) -> None:
        """Wait until every rank is done; then end the watch, the communicators and their groups.

        If some rank is not done within `timeout_s`, everything is left as it is.
        """
        if self._store.add("done", 1) == self.launch.world_size:
            self._store.set(_FAILED, "")
        if self._watcher is not None:
            self._watcher.join(timeout_s)
            if self._watcher.is_alive():
                return
        for communicator in self._communicators:
            communicator.close()
        destroy_groups()

    def _watch(self) -> threading.Thread | None:
        """End this process when another rank has failed, also if it is blocked in a collective.

        The watch has its own connection, because a waiting store serves nobody else.
        """
        if self.launch.world_size == 1:
            return None
        store = _of_attempt(self.launch, _store(self.launch, 60.0, is_client=True))
        arguments = (store, self.launch.rank)
        watcher = threading.Thread(target=_end_with_others, args=arguments, daemon=True)
        watcher.start()
        return watcher


def tell_failure_alone(launch: Launch, message: str, timeout_s: float) -> str | None:
    """`World.tell_failure` of a process that has not met the others: torchrun hosts the store.

    None as well where the store cannot be reached within `timeout_s`.
    """
    if launch.world_size == 1 or not launch.has_agent_store:
        return None
    try:
        store = _of_attempt(launch, _store(launch, timeout_s, is_client=True))
    except LaunchError:
        return None
    return _tell(store, launch, message)


def _of_attempt(launch: Launch, store: Any) -> Any:
    """The part of the store that is this launch's, and not that of one before a restart."""
    return PrefixStore(f"superscaler/{launch.attempt}", store)


def _tell(store: Any, launch: Launch, message: str) -> str | None:
    first = store.compare_set(_FAILED, "", f"{launch.rank}\n{message}").decode()
    rank, _, text = first.partition("\n")
    if rank == str(launch.rank):
        return None
    return f"rank {launch.rank} ends because rank {rank} failed: {text}"


def _end_with_others(store: Any, rank: int) -> None:
    try:
        store.wait([_FAILED], timedelta(days=365))
        message = store.get(_FAILED).decode()
    except (dist.DistError, RuntimeError):
        return  # the store went away: the launch is over
    failed, _, text = message.partition("\n")
    if failed in ("", str(rank)):
        return
    time.sleep(_GRACE_S)
    print(f"rank {rank} ends because rank {failed} failed: {text}", file=sys.stderr, flush=True)
    os._exit(1)


def _device(launch: Launch) -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    count = torch.cuda.device_count()
    if launch.local_rank >= count:
        raise LaunchError(
            f"rank {launch.rank} is process {launch.local_rank} of its node, which has {count} "
            "GPUs; start at most as many processes per node as it has GPUs"
        )
    torch.cuda.set_device(launch.local_rank)
    return torch.device("cuda", launch.local_rank)


def _store(launch: Launch, timeout_s: float, is_client: bool = False) -> Any:
    hosts = launch.rank == 0 and not launch.has_agent_store and not is_client
    try:
        return TCPStore(
            launch.host,
            launch.port,
            is_master=hosts,
            timeout=timedelta(seconds=timeout_s),
            wait_for_workers=False,
        )
    except (dist.DistError, RuntimeError) as error:
        raise LaunchError(
            f"rank {launch.rank} cannot reach {launch.host}:{launch.port}, where rank 0 or "
            f"torchrun should be, within {timeout_s:g} s; check that it was started, that "
            "MASTER_ADDR and MASTER_PORT are its own, and that the network lets them through"
        ) from error


def _meet(store: Any, launch: Launch, timeout_s: float) -> None:
    """Wait until every rank has said that it is there."""
    store.set(f"here/{launch.rank}", "yes")
    waiting = [f"here/{rank}" for rank in range(launch.world_size)]
    try:
        store.wait(waiting, timedelta(seconds=timeout_s))
    except (dist.DistError, RuntimeError) as error:
        missing = [rank for rank, key in enumerate(waiting) if not store.check([key])]
        raise LaunchError(
            f"rank {launch.rank} waited {timeout_s:g} s for {len(missing)} of "
            f"{launch.world_size} ranks: missing {', '.join(map(str, missing))}; check that each "
            "was started with the same WORLD_SIZE, MASTER_ADDR and MASTER_PORT (torchrun: the "
            "same rendezvous on every node), and what their own logs say"
        ) from error

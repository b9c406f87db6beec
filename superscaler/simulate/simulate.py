"""Simulate: one step of a compiled program on a cluster, without running it."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from superscaler.cluster.cluster import Cluster
from superscaler.errors import SimulateError
from superscaler.garbage import no_collections
from superscaler.simulate.events.engine import Host, run
from superscaler.simulate.events.fold import Network, connect, refined
from superscaler.simulate.events.meet import meetings
from superscaler.simulate.events.progress import check_progress
from superscaler.simulate.machine import Machine
from superscaler.simulate.report import report
from superscaler.simulate.scripts.maker import Compiled, ScriptMaker
from superscaler.simulate.scripts.script import Script
from superscaler.simulate.simulation import Simulation


def simulate(
    compiled: Compiled,
    cluster: Cluster,
    profile: Any = None,
    *,
    fold: bool = True,
    name: str = "",
) -> Simulation:
    """Times, lanes and memory of one step of steady training.

    Ranks that do the same at the same times are looked at once; `fold=False` looks at each rank
    (the result is the same, by symmetry). `profile` corrects what the cluster says of operators
    and links.

    Raises SimulateError when the cluster or a node's host memory is too small, or when ranks wait
    for each other.
    """
    world_size = compiled.program.partition.num_devices
    if cluster.num_devices < world_size:
        raise SimulateError(
            f"the program is for {world_size} devices, cluster {cluster.name} has "
            f"{cluster.num_devices}; name a larger cluster, or compile it for fewer devices"
        )
    return simulate_with(ScriptMaker(compiled, Machine(cluster, profile)), fold=fold, name=name)


@no_collections()
def simulate_with(maker: ScriptMaker, *, fold: bool = True, name: str = "") -> Simulation:
    """`simulate`, with what a maker has recorded before."""
    machine, world_size = maker.machine, maker.compiled.program.partition.num_devices
    network = _network(maker, world_size)
    colour = _colours(network, machine, fold)
    members: dict[int, list[int]] = {}
    for rank, c in enumerate(colour):
        members.setdefault(c, []).append(rank)
    classes = tuple(tuple(ranks) for ranks in members.values())
    met = meetings(network, classes, machine)
    scripts = [network.scripts[network.script_of[ranks[0]]] for ranks in classes]
    check_progress(scripts, met, classes)
    timing = run(scripts, met, _hosts(classes, machine))
    found = report(maker, network, classes, met, timing, name)
    _check_host_memory(found, machine)
    return found


def _check_host_memory(found: Simulation, machine: Machine) -> None:
    """Raises SimulateError when the ranks of a node need more host memory than it has."""
    total: dict[int, int] = {}
    for rank_class in found.classes:
        for rank in rank_class.ranks:
            node = machine.node(rank)
            total[node] = total.get(node, 0) + rank_class.host_peak_bytes
    for node, needed in total.items():
        has = machine.cluster.host_of(node * machine.cluster.devices_per_node).memory_gbytes
        if needed > has * 1e9:
            raise SimulateError(
                f"host memory of node {node}: its ranks keep {needed / 1e9:.3g} GB there, cluster "
                f"{machine.cluster.name} has {has:g} GB a node; offload fewer modules, shard the "
                "optimizer (zero), or use more nodes"
            )


def _network(maker: ScriptMaker, world_size: int) -> Network:
    scripts: list[Script] = []
    numbers: dict[Hashable, int] = {}
    script_of = []
    for rank in range(world_size):
        key = maker.key(rank)
        if key not in numbers:
            numbers[key] = len(scripts)
            scripts.append(maker.make(rank))
        script_of.append(numbers[key])
    return connect(scripts, script_of, maker.constants)


def _hosts(classes: tuple[tuple[int, ...], ...], machine: Machine) -> list[Host | None]:
    """Where classes of CPU ranks run; GPUs share nothing that is modelled."""
    hosts: list[Host | None] = []
    for ranks in classes:
        if machine.is_cuda(ranks[0]):
            hosts.append(None)
            continue
        node = machine.node(ranks[0])
        counts = {c: sum(machine.node(r) == node for r in rs) for c, rs in enumerate(classes)}
        cores = machine.cluster.host_of(ranks[0]).cores
        hosts.append(Host(cores, {c: n for c, n in counts.items() if n}))
    return hosts


def _colours(network: Network, machine: Machine, fold: bool) -> list[int]:
    count = len(network.script_of)
    if not fold:
        return list(range(count))
    return refined(
        network,
        network.script_of,
        lambda what, size, ranks: (
            machine.collective_us(what.kind, size, ranks),
            machine.lane(what.kind, ranks),
        ),
    )

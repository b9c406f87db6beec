"""Communication: how long collectives and messages take, by alpha-beta costs per level of links."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import ceil, log2
from typing import TYPE_CHECKING

from superscaler.cluster.cluster import Cluster
from superscaler.cluster.machine import Link
from superscaler.errors import PlanError

if TYPE_CHECKING:
    from superscaler.cluster.profile import Profile

KINDS = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "broadcast", "move")
PASSES = {"all_reduce": 2, "all_gather": 1, "reduce_scatter": 1}


def collective_us(
    kind: str,
    num_bytes: float,
    ranks: Sequence[int],
    cluster: Cluster,
    profile: Profile | None = None,
) -> float:
    """The time of one communication among `ranks`.

    `num_bytes`: of the whole tensor for all_reduce, all_gather, reduce_scatter and broadcast; of
    what one rank sends in all for all_to_all and move. The better of ring and tree, in levels
    where the group spans several nodes evenly. Source: Thakur et al., Optimization of Collective
    Communication Operations in MPICH, 2005. Raises PlanError for an unknown kind.
    """
    if kind not in KINDS:
        raise PlanError(f"communication {kind!r}: expected one of {', '.join(KINDS)}")
    count = len(set(ranks))
    if count <= 1:
        return 0.0
    if profile is not None:
        measured = profile.communication_us(kind, num_bytes, ranks, cluster)
        if measured is not None:
            return measured
    link = cluster.link(ranks)
    if kind == "move":
        return link.transfer_us(num_bytes)
    if kind == "all_to_all":
        return _all_to_all(num_bytes, ranks, cluster)
    if kind == "broadcast":
        return min(_tree(num_bytes, count, link), _ring(num_bytes, count, link, 2))
    flat = _ring(num_bytes, count, link, PASSES[kind])
    if kind == "all_reduce":
        flat = min(flat, 2 * _tree(num_bytes, count, link))
    return min(flat, _levels(num_bytes, ranks, cluster, PASSES[kind]))


def sent_bytes(kind: str, num_bytes: float, num_ranks: int) -> float:
    """What one rank sends; `num_bytes` as in `collective_us`."""
    if num_ranks <= 1:
        return 0.0
    if kind in PASSES:
        return PASSES[kind] * num_bytes * (num_ranks - 1) / num_ranks
    return num_bytes


def _ring(num_bytes: float, count: int, link: Link, passes: int) -> float:
    """Each pass sends (n - 1) pieces of 1/n around."""
    return passes * (count - 1) * link.transfer_us(num_bytes / count)


def _tree(num_bytes: float, count: int, link: Link) -> float:
    """ceil(log2 n) messages one after the other; large ones flow in pieces behind each other."""
    rounds = ceil(log2(count))
    return rounds * link.latency_us + num_bytes / (link.gbytes_per_s * 1e3) * (
        2 if rounds > 1 else 1
    )


def _levels(num_bytes: float, ranks: Sequence[int], cluster: Cluster, passes: int) -> float:
    """A ring inside each node, then rings across with a part of the tensor each."""
    size = cluster.links[0].devices
    if not size or cluster.level(ranks) == 0:
        return float("inf")
    per_node = Counter(r // size for r in ranks)
    inside = min(per_node.values())
    if inside == 1 or max(per_node.values()) != inside:
        return float("inf")
    first = cluster.links[0]
    return _ring(num_bytes, inside, first, passes) + _ring(
        num_bytes / inside, len(per_node), cluster.link(ranks), passes
    )


def _all_to_all(num_bytes: float, ranks: Sequence[int], cluster: Cluster) -> float:
    """Every rank sends 1/n to each other: the slowest of any rank over any level."""
    each = num_bytes / len(ranks)
    longest, nearer = 0.0, dict.fromkeys(ranks, 1)  # a rank itself
    for link in cluster.links:
        last = link is cluster.links[-1] or not link.devices
        groups = {r: 0 if last else r // link.devices for r in ranks}
        sizes = Counter(groups.values())
        peers = max(sizes[groups[r]] - nearer[r] for r in ranks)
        if peers:
            longest = max(longest, link.transfer_us(peers * each))
        nearer = {r: sizes[groups[r]] for r in ranks}
    return longest

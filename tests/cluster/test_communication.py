"""Communication costs against what can be worked out by hand."""

import pytest

from superscaler.cluster import Cluster, Link
from superscaler.cluster.communication import collective_us, sent_bytes
from superscaler.errors import PlanError

FAST, SLOW = Link(1.0, 100.0, "fast", 4), Link(10.0, 10.0, "slow")
CLUSTER = Cluster(16, links=(FAST, SLOW))
MB = 1e6


def test_a_ring_moves_each_byte_almost_twice() -> None:
    four = [0, 1, 2, 3]
    assert collective_us("all_gather", MB, four, CLUSTER) == 3 * (1 + MB / 4 / 100e3)
    assert collective_us("all_reduce", MB, four, CLUSTER) == 2 * 3 * (1 + MB / 4 / 100e3)
    assert sent_bytes("all_reduce", MB, 4) == 1.5 * MB


def test_small_messages_go_by_tree() -> None:
    ranks = list(range(0, 16, 4))
    assert collective_us("all_reduce", 8, ranks, CLUSTER) < 6 * SLOW.latency_us


def test_nodes_reduce_inside_first() -> None:
    everyone = list(range(16))
    flat = 15 * (10 + MB / 16 / 10e3)
    assert collective_us("all_gather", MB, everyone, CLUSTER) < flat


def test_all_to_all_is_no_all_gather() -> None:
    """Each rank's bytes go out once: a group of four sends three quarters of them."""
    assert collective_us("all_to_all", MB, [0, 1, 2, 3], CLUSTER) == 1 + 0.75 * MB / 100e3


def test_all_to_all_waits_for_the_rank_with_most_to_send_far() -> None:
    """Four of a node and one of another: the one sends four fifths over the slow link."""
    for ranks in ([0, 1, 2, 3, 4], [4, 0, 1, 2, 3]):
        assert collective_us("all_to_all", MB, ranks, CLUSTER) == 10 + 0.8 * MB / 10e3


def test_groups_of_any_size() -> None:
    times = [collective_us("all_reduce", MB, list(range(n)), CLUSTER) for n in range(1, 17)]
    assert times[0] == 0
    assert all(t > 0 for t in times[1:])
    assert times[3] < times[4]  # the fifth is on another node


def test_a_message() -> None:
    assert collective_us("move", MB, [3, 4], CLUSTER) == SLOW.transfer_us(MB)


def test_an_unknown_kind() -> None:
    with pytest.raises(PlanError, match="communication 'gossip': expected one of all_reduce"):
        collective_us("gossip", 1, [0, 1], CLUSTER)

"""What is measured, and the cluster made of it."""

import pytest

from superscaler.cluster import Cluster
from superscaler.cluster.machine import Device
from superscaler.cluster.measure import gpu_kind, measured_cluster
from superscaler.cluster.profile import LinkTime

DEVICE = Device("cpu", {"float32": 0.05}, 4.0, 10.0, 5.0)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("NVIDIA H100 80GB HBM3", "h100-80g"),
        ("NVIDIA H200", "h200"),
        ("NVIDIA A100-SXM4-80GB", "a100-80g"),
        ("NVIDIA A100-SXM4-40GB", "nvidia-a100-sxm4-40gb"),
        ("Tesla V100-SXM2-32GB", "v100-32g"),
    ],
)
def test_a_gpu_is_of_the_kind_that_ships(name: str, kind: str) -> None:
    assert gpu_kind(name) == kind


def test_kinds_are_those_of_shipped_clusters() -> None:
    for name in ("v100-32g-8", "a100-80g", "h100-80g", "h200"):
        assert Cluster.load(name).device(0).kind in name


def test_latency_and_bandwidth_from_messages() -> None:
    times = [LinkTime("move", "gloo", 2, n, 50 + n / 2e3) for n in (1e3, 1e6)]
    cluster = measured_cluster(DEVICE, times, 2)
    assert cluster.link([0, 1]).gbytes_per_s == pytest.approx(2.0)
    assert cluster.link([0, 1]).latency_us == pytest.approx(50.0)
    assert cluster.link_name([0, 1]) == "gloo"
    assert Cluster.from_dict(cluster.to_dict()) == cluster


def test_a_small_message_that_was_held_up() -> None:
    """The bandwidth stays within twice what the largest message alone says."""
    times = [LinkTime("move", "gloo", 2, 1e3, 900), LinkTime("move", "gloo", 2, 1e6, 800)]
    assert measured_cluster(DEVICE, times, 2).link([0, 1]).gbytes_per_s < 2 * 1e6 / 800 / 1e3 + 1e-9


def test_one_gpu_has_no_link_to_measure() -> None:
    assert measured_cluster(DEVICE, [], 1).num_devices == 1

"""Clusters: files, names that ship, links, kinds of device, and errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from superscaler.cluster import Cluster, Device, Link, Nodes
from superscaler.errors import PlanError

CLUSTERS = Path(__file__).parents[2] / "plans" / "clusters"
TWO_LEVELS = """
num_devices: 4
links:
- {name: fast, latency_us: 1, gbytes_per_s: 100, devices: 2}
- {name: slow, latency_us: 10, gbytes_per_s: 5}
"""


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "two.yaml"
    path.write_text(TWO_LEVELS)
    cluster = Cluster.load(path)
    assert cluster.num_devices == 4
    assert cluster.link([0, 1]) == Link(1, 100, "fast", 2)
    assert cluster.link_name([1, 2]) == "slow"
    assert cluster.device(3) == Device()


@pytest.mark.parametrize("path", sorted(CLUSTERS.glob("*.yaml")), ids=lambda p: p.stem)
def test_those_that_ship(path: Path) -> None:
    cluster = Cluster.load(path.stem)
    assert cluster.name == path.stem
    assert Cluster.from_dict(cluster.to_dict()) == cluster
    assert cluster.device(0).tflops
    assert cluster.named_link(cluster.copy.name) == cluster.copy


def test_a_shipped_cluster_of_another_size() -> None:
    cluster = Cluster.load("v100-32g-8x32")
    assert (cluster.num_devices, cluster.devices_per_node) == (32, 8)
    assert cluster.link_name([0, 8]) == "infiniband"
    assert cluster.device(31).kind == "v100-32g"


def test_devices_of_two_kinds() -> None:
    cluster = Cluster(6, Device("a"), others=(Nodes(2, Device("b")), Nodes(1, Device("c"))))
    assert "".join(cluster.device(d).kind for d in range(6)) == "aaabbc"
    assert Cluster.from_dict(cluster.to_dict()) == cluster


def test_devices_of_two_kinds_have_no_other_size() -> None:
    with pytest.raises(PlanError, match="a100x4-v100x4 has devices of several kinds, so it has no"):
        Cluster.load("a100x4-v100x4x16")


def test_transfer_time() -> None:
    assert Link(5.0, 200.0).transfer_us(1e6) == 5.0 + 1e6 / 200e3


def test_peaks_that_are_not_given() -> None:
    device = Device(tflops={"float32": 10.0})
    assert [device.peak_tflops(d) for d in ("float32", "float16", "float64")] == [10, 10, 5]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", ", line 1: expected a mapping, found \\[1\\]"),
        ("name: x", ", line 1: num_devices: this field is missing"),
        ("num_devices: 2\nspeed: 3", ", line 2: speed: unknown field; known: name, num_devices, "),
        ("num_devices: 0", ", line 1: num_devices: expected a whole number above 0, found 0"),
        ("num_devices: [", ", line 1: not valid YAML"),
        ("num_devices: 2\nlinks: []", ", line 2: links: expected at least one link, found none"),
        ("num_devices: 2\nlinks: 3", ", line 2: links: expected a list, found 3"),
        (
            "num_devices: 2\nlinks:\n- {latency_us: 1}",
            ", line 3: links.0.gbytes_per_s: this field is missing",
        ),
        (
            "num_devices: 2\nlinks:\n- {latency_us: -1, gbytes_per_s: 3}",
            ", line 3: links.0.latency_us: expected a number above 0, found -1",
        ),
        (
            "num_devices: 2\ndevice: {tflops: 3}",
            ", line 2: device.tflops: expected speeds by dtype, found 3",
        ),
        (
            "num_devices: 1\nothers:\n- {num_devices: 2, device: {}}",
            ", line 3: others: more devices than the cluster's num_devices",
        ),
    ],
)
def test_malformed(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(PlanError, match=f"cluster .*c.yaml{message}"):
        Cluster.load(path)


@pytest.mark.parametrize("name", ["nowhere", "nowherex8", "h100-80gx0"])
def test_missing(name: str) -> None:
    with pytest.raises(PlanError, match=f"cluster '{name}': no such file, and no shipped cluster"):
        Cluster.load(name)


def test_an_unknown_link() -> None:
    with pytest.raises(PlanError, match="no link 'ethernet'; it has nvlink, infiniband, pcie"):
        Cluster(2).named_link("ethernet")

"""Clusters: files, names that ship, links, and errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from superscaler.cluster import Cluster, Link
from superscaler.errors import PlanError


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "two.yaml"
    path.write_text(
        "num_devices: 4\ndevices_per_node: 2\ninside: {latency_us: 1, gbytes_per_s: 100}\n"
    )
    cluster = Cluster.load(path)
    assert (cluster.num_devices, cluster.inside) == (4, Link(1, 100))
    assert cluster.link([0, 1]) == cluster.inside
    assert cluster.link([1, 2]) == cluster.across


def test_those_that_ship() -> None:
    assert Cluster.load("a100x16").num_devices == 16


def test_transfer_time() -> None:
    assert Link(5.0, 200.0).transfer_us(1e6) == 5.0 + 1e6 / 200e3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "expected a mapping with the field num_devices"),
        ("tflops: 3", "expected a mapping with the field num_devices"),
        ("num_devices: 2\nspeed: 3", "unknown field 'speed'; known: across, "),
        ("num_devices: [", "not valid YAML"),
    ],
)
def test_malformed(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(PlanError, match=f"cluster .*c.yaml: {message}"):
        Cluster.load(path)


def test_missing() -> None:
    with pytest.raises(PlanError, match="cluster 'nowhere': no such file, and no shipped cluster"):
        Cluster.load("nowhere")

"""Operator costs and profiles."""

from dataclasses import replace
from pathlib import Path

import pytest

from superscaler.cluster import Cluster, Device
from superscaler.cluster.communication import collective_us
from superscaler.cluster.operators import ARITHMETIC, BANDWIDTH, OperatorWork, operator_us
from superscaler.cluster.profile import LinkTime, OperatorTime, Profile
from superscaler.errors import PlanError

DEVICE = Device("toy", {"float32": 10.0}, 16.0, 100.0, 5.0)
PRODUCT = OperatorWork("aten.mm.default", "float32", 2e9, 1.2e7, ((1000, 1000), (1000, 1000)))
SUM = OperatorWork("aten.add.Tensor", "float32", 0.0, 1.2e7, ((1000, 1000),))


def test_roofline() -> None:
    assert operator_us(PRODUCT, DEVICE) == 5 + 2e9 / (10e6 * ARITHMETIC)
    assert operator_us(SUM, DEVICE) == 5 + 1.2e7 / (100e3 * BANDWIDTH)


def test_what_was_measured_is_taken() -> None:
    profile = Profile("toy", (OperatorTime(PRODUCT, 321.0),))
    assert operator_us(PRODUCT, DEVICE, profile) == 321.0
    assert operator_us(SUM, DEVICE, profile) == operator_us(SUM, DEVICE)


def test_other_sizes_are_corrected() -> None:
    model = operator_us(PRODUCT, DEVICE)
    profile = Profile("toy", (OperatorTime(PRODUCT, 2 * model),))
    larger = replace(PRODUCT, flops=8e9, num_bytes=4.8e7, shapes=((2000, 2000), (2000, 1000)))
    assert operator_us(larger, DEVICE, profile) == pytest.approx(2 * operator_us(larger, DEVICE))


def test_a_profile_of_another_device() -> None:
    with pytest.raises(PlanError, match="measured on other, the cluster's device is toy"):
        operator_us(PRODUCT, DEVICE, Profile("other", (OperatorTime(PRODUCT, 1.0),)))


def test_measured_links() -> None:
    cluster = Cluster(4)
    times = (
        LinkTime("all_reduce", "nvlink", 2, 1e3, 10),
        LinkTime("all_reduce", "nvlink", 2, 1e5, 90),
    )
    profile = Profile("generic", (), times)
    measured = [
        collective_us("all_reduce", n, [0, 1], cluster, profile) for n in (1e3, 1e4, 1e5, 2e5)
    ]
    assert measured == pytest.approx([10, 30, 90, 180])
    assert collective_us("all_gather", 1e4, [0, 1], cluster, profile) == collective_us(
        "all_gather", 1e4, [0, 1], cluster
    )


def test_a_group_of_a_size_that_was_not_measured() -> None:
    """It is corrected as the nearest size is."""
    cluster = Cluster(4)
    twice = 2 * collective_us("all_reduce", 1e4, [0, 1], cluster)
    profile = Profile("generic", (), (LinkTime("all_reduce", "nvlink", 2, 1e4, twice),))
    three = collective_us("all_reduce", 1e4, [0, 1, 2], cluster)
    assert collective_us("all_reduce", 1e4, [0, 1, 2], cluster, profile) == pytest.approx(2 * three)


def test_links_measured_with_another_device() -> None:
    profile = Profile("other", (), (LinkTime("move", "nvlink", 2, 8.0, 3.0),))
    with pytest.raises(PlanError, match="measured on other, the cluster's device is generic"):
        collective_us("move", 8, [0, 1], Cluster(2), profile)


def test_one_profile_on_two_descriptions_of_a_device() -> None:
    """Each is corrected by its own model."""
    profile = Profile("toy", (OperatorTime(PRODUCT, 321.0),))
    larger = replace(PRODUCT, flops=8e9, num_bytes=4.8e7, shapes=((2000, 2000), (2000, 1000)))
    slow = replace(DEVICE, tflops={"float32": 1.0})
    for device in (DEVICE, slow):
        factor = 321.0 / operator_us(PRODUCT, device)
        assert operator_us(larger, device, profile) == pytest.approx(
            factor * operator_us(larger, device)
        )


def test_the_busy_part_of_measured_communication() -> None:
    """Between measured sizes; that of the nearest number of ranks; all of it if not measured."""
    cluster = Cluster(8)
    times = (
        LinkTime("all_reduce", "nvlink", 2, 1e2, 10, 0.2),
        LinkTime("all_reduce", "nvlink", 2, 1e4, 90, 0.8),
        LinkTime("all_reduce", "nvlink", 8, 1e2, 90, 0.5),
    )
    profile = Profile("generic", (), times)
    asked = [(1e0, 2), (1e2, 2), (1e3, 2), (1e4, 2), (1e9, 2), (1e2, 7)]
    found = [profile.busy("all_reduce", size, range(n), cluster) for size, n in asked]
    assert found == pytest.approx([0.2, 0.2, 0.4, 0.8, 0.8, 0.5])
    assert profile.busy("all_gather", 1e3, [0, 1], cluster) == 1.0


def test_a_profile_written_before_busy_parts_were_measured(tmp_path: Path) -> None:
    old = '{"format": 1, "device": "toy", "operators": [], "links": [["move", "nvlink", 2, 8, 3]]}'
    (tmp_path / "p.json").write_text(old)
    assert Profile.load(tmp_path / "p.json").links == (LinkTime("move", "nvlink", 2, 8, 3, 1.0),)


def test_a_profile_is_read_back(tmp_path: Path) -> None:
    link = LinkTime("move", "nvlink", 2, 8.0, 3.0, 0.25)
    profile = Profile("toy", (OperatorTime(PRODUCT, 1.5),), (link,))
    profile.save(tmp_path / "p.json")
    assert Profile.load(tmp_path / "p.json") == profile


@pytest.mark.parametrize(
    ("text", "message"), [("{", "not a profile"), ('{"format": 9}', "expected format 1, found 9")]
)
def test_malformed(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(PlanError, match=message):
        Profile.load(tmp_path / "p.json")


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="no such file; make one with superscaler profile"):
        Profile.load(tmp_path / "p.json")

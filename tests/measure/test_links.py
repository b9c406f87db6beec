"""Communication between processes of this machine, measured."""

from __future__ import annotations

import pytest
import torch

from superscaler.measure import links
from superscaler.measure.links import Span, mean, measure_links, possible


def test_no_more_processes_than_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert possible([2, 4]) == (2,)


def test_a_call_lasts_from_when_the_last_has_come_until_the_last_goes_on() -> None:
    first = [Span(0.0, 6.0, 1.0), Span(10.0, 13.0, 1.0), Span(20.0, 90.0, 1.0)]
    second = [Span(2.0, 5.0, 2.0), Span(11.0, 15.0, 2.0), Span(21.0, 80.0, 1.0)]
    us, busy = mean([first, second])  # 4, 4, and 69 s, which does not count
    assert us == pytest.approx(4e6)
    assert busy == pytest.approx(1.5 / 4)


def test_a_mean_is_of_all_calls_but_the_slowest() -> None:
    """A median would not know of the one in three that take long."""
    spans = [Span(0.0, s, s / 2) for s in (1.0, 4.0, 1.0, 1.0, 4.0, 9.0)]
    assert mean([spans]) == (pytest.approx(11 / 5 * 1e6), pytest.approx(0.5))


@pytest.mark.parametrize(("busy", "part"), [(0.0, 0.01), (9.0, 1.0)])
def test_the_busy_part_is_a_part(busy: float, part: float) -> None:
    """Several threads of a process may work at once, and the clock of a process is coarse."""
    assert mean([[Span(0.0, 1.0, busy)] * 3])[1] == part


@pytest.mark.dist
def test_links_are_measured_as_the_runtime_uses_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "_where", lambda: "cpu")
    found = {(t.kind, t.num_bytes): t for t in measure_links([2])}
    kinds = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "move")
    assert set(found) == {(kind, float(size)) for kind in kinds for size in links.SIZES}
    assert all(t.num_ranks == 2 and t.us > 0 and 0 < t.busy <= 1 for t in found.values())
    small, large = (found["move", float(size)].us for size in (links.SIZES[0], links.SIZES[-1]))
    assert large > small / 10

"""Report: a simulation's numbers as text, for the page, the chart and the terminal."""

from __future__ import annotations

from dataclasses import dataclass

from superscaler.simulate.simulation import RankClass, Simulation
from superscaler.units import bytes_text, time_text


@dataclass(frozen=True, slots=True)
class Card:
    """One number of the summary: what it is called, says, and means."""

    title: str
    value: str
    more: str
    meaning: str


@dataclass(frozen=True, slots=True)
class RankLine:
    """One class of ranks, as text."""

    name: str
    busy: str
    exposed: str
    peak: str
    share: str
    holders: str


def cards(simulation: Simulation) -> list[Card]:
    """The summary, most telling numbers first; what is not known is left out."""
    return [
        Card("step time", time_text(simulation.step_us), "", "how long a step takes"),
        *_bound_cards(simulation),
        Card("bubble", f"{simulation.bubble:.1%}", "of all device time", "time without computing"),
        Card(
            "exposed communication",
            time_text(simulation.exposed_us),
            f"{_share(simulation.exposed_us, simulation.step_us)} of the step",
            "waiting for communication that no computation hides, mean over ranks",
        ),
        _peak_card(simulation),
        *_flops_cards(simulation),
    ]


def _bound_cards(simulation: Simulation) -> list[Card]:
    bound, gap = simulation.schedule.get("bound_us"), simulation.schedule.get("gap")
    if not isinstance(bound, (int, float)):
        return []
    status = str(simulation.schedule.get("status", ""))
    value = time_text(float(bound))
    more = f"gap {float(gap):.1%}" if isinstance(gap, (int, float)) else ""
    meaning = "no order of the same tasks can be shorter; the gap is between it and the order found"
    return [Card("bound", value, ", ".join(t for t in (more, status) if t), meaning)]


def _peak_card(simulation: Simulation) -> Card:
    peak = max(simulation.classes, key=lambda c: c.peak_bytes)
    share = f", {peak.peak_bytes / peak.capacity_bytes:.0%}" if peak.capacity_bytes else ""
    return Card(
        "peak memory", bytes_text(peak.peak_bytes), peak.name + share, "of the fullest rank"
    )


def _flops_cards(simulation: Simulation) -> list[Card]:
    if not simulation.flops or not simulation.peak_tflops:
        return []
    value = f"{simulation.model_flops_utilisation:.1%}"
    more = f"of {simulation.peak_tflops:,.0f} TFLOP/s"
    meaning = "the model's arithmetic over what the devices could do in the time"
    return [Card("model flops utilisation", value, more, meaning)]


def rank_lines(simulation: Simulation) -> list[RankLine]:
    """Every class of ranks."""
    return [_rank_line(c, simulation.step_us) for c in simulation.classes]


def _rank_line(rank_class: RankClass, step_us: float) -> RankLine:
    most = sorted(rank_class.holders, key=lambda h: -h.num_bytes)[:2]
    return RankLine(
        rank_class.name,
        _share(rank_class.busy_us.get("compute", 0.0), step_us),
        time_text(rank_class.exposed_us),
        bytes_text(rank_class.peak_bytes),
        _share(rank_class.peak_bytes, rank_class.capacity_bytes),
        "; ".join(f"{bytes_text(h.num_bytes)} {h.name}" for h in most),
    )


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.1%}" if whole else ""

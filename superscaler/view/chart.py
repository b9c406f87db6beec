"""Chart: timeline and memory of a simulation as a PNG or SVG picture (matplotlib)."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any

from superscaler.simulate.simulation import Simulation
from superscaler.units import bytes_text, time_text
from superscaler.view.palette import HUES, MARKS, colour, mark_of
from superscaler.view.report import cards
from superscaler.view.rows import Row, kind_of, rows_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_LABELS = 400
MOST_VECTOR_EVENTS = 20_000  # in an SVG; beyond, bars become an image inside it
_MOST_LABELLED_ROWS = 48
_Boxes = list[tuple[float, float]]


def chart(simulation: Simulation, form: str) -> bytes:
    """The picture; `form` is "png" or "svg". The same simulation gives the same bytes."""
    from matplotlib import rc_context

    with rc_context({"svg.hashsalt": "superscaler", "font.size": 9, "hatch.linewidth": 0.7}):
        figure = _figure(simulation)
        buffer = io.BytesIO()
        metadata = {"Date": None} if form == "svg" else {"Software": None}
        figure.savefig(buffer, format=form, dpi=140, metadata=metadata)
    return buffer.getvalue()


def _figure(simulation: Simulation) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = rows_of(simulation)
    units = sum(_height(row) for row in rows)
    rows_inches = min(max(0.42 * units, 1.2), 9.0)
    figure = Figure(figsize=(13, rows_inches + 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    top, bottom = figure.subplots(
        2, 1, sharex=True, gridspec_kw={"height_ratios": [rows_inches, 1.7]}
    )
    scale, unit = _unit(simulation.step_us)
    _draw_rows(simulation, rows, top, scale)
    _draw_memory(simulation, bottom, scale)
    bottom.set_xlabel(f"time ({unit})")
    bottom.set_xlim(0, simulation.step_us * scale)
    figure.suptitle(_title(simulation), fontsize=10, x=0.01, ha="left")
    figure.legend(
        handles=_legend(simulation), loc="outside lower center", ncols=5, frameon=False, fontsize=8
    )
    return figure


def _title(simulation: Simulation) -> str:
    numbers = ", ".join(f"{c.title} {c.value}" for c in cards(simulation))
    where = f"{simulation.world_size} ranks on {simulation.cluster}"
    return f"{simulation.name or 'one step'}: {where}\n{numbers}"


def _unit(step_us: float) -> tuple[float, str]:
    return (1e-6, "s") if step_us >= 2e6 else (1e-3, "ms") if step_us >= 2e3 else (1.0, "µs")


def _height(row: Row) -> float:
    return 1.0 if row.lane == "compute" else 0.4


def _draw_rows(simulation: Simulation, rows: tuple[Row, ...], axes: Axes, scale: float) -> None:
    rasterised = sum(len(row.events) for row in rows) > MOST_VECTOR_EVENTS
    at, ticks, names, last = 0.0, [], [], -1
    for row in rows:
        at += 0.2 if row.rank_class != last and last >= 0 else 0.0
        height, last = _height(row), row.rank_class
        _draw_row(simulation, row, axes, scale, at, rasterised)
        if row.lane == "compute" or len(rows) <= _MOST_LABELLED_ROWS:
            ticks.append(at + height / 2)
            name = simulation.classes[row.rank_class].name
            names.append(name if row.lane == "compute" else row.lane)
        at += height
    every = -(-len(ticks) // _MOST_LABELLED_ROWS)
    axes.set_yticks(ticks[::every], names[::every], fontsize=7)
    axes.set_ylim(at, 0)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _draw_row(
    simulation: Simulation, row: Row, axes: Axes, scale: float, at: float, rasterised: bool
) -> None:
    height = _height(row)
    bars: dict[tuple[str, str], _Boxes] = {}
    for event in row.events:
        kind = kind_of(simulation, event)
        box = (event.start_us * scale, (event.end_us - event.start_us) * scale)
        bars.setdefault((kind, colour(kind, event.microbatch)), []).append(box)
    axes.broken_barh([(0, simulation.step_us * scale)], (at, height), color="#eef0f3", lw=0)
    for (kind, fill), boxes in sorted(bars.items()):
        hatch = mark_of(kind).hatch if not rasterised else None
        axes.broken_barh(
            boxes,
            (at, height),
            facecolor=fill,
            edgecolor="white",
            lw=0 if rasterised else 0.4,
            hatch=hatch or None,
            rasterized=rasterised,
        )
    if row.lane == "compute" and not rasterised:
        _label(simulation, row, axes, scale, at + height / 2)


def _label(simulation: Simulation, row: Row, axes: Axes, scale: float, middle: float) -> None:
    """`F3` in bars with room for it."""
    if len(row.events) * len(simulation.classes) > MOST_LABELS:
        return
    for event in row.events:
        kind = kind_of(simulation, event)
        number = str(event.microbatch) if event.microbatch >= 0 else ""
        text = mark_of(kind).letter + number
        if event.end_us - event.start_us < 0.009 * len(text) * simulation.step_us:
            continue
        dark = kind == "B" and event.microbatch % len(HUES) in (0, 2, 5)
        axes.text(
            (event.start_us + event.end_us) / 2 * scale,
            middle,
            text,
            ha="center",
            va="center",
            fontsize=7,
            color="white" if dark else "#14181c",
        )


def _draw_memory(simulation: Simulation, axes: Axes, scale: float) -> None:
    from matplotlib.ticker import FuncFormatter

    many = len(simulation.classes) > len(HUES)
    peak = max(simulation.classes, key=lambda c: c.peak_bytes)
    for number, rank_class in enumerate(simulation.classes):
        points = rank_class.memory or ((0.0, rank_class.resident_bytes),)
        times = [t * scale for t, _ in points] + [simulation.step_us * scale]
        held = [b for _, b in points] + [points[-1][1]]
        shade = ("#1c2127" if rank_class is peak else "#8a9099") if many else HUES[number]
        label = "" if many and rank_class is not peak else rank_class.name
        width = 1.4 if rank_class is peak or not many else 0.5
        axes.step(times, held, where="post", color=shade, lw=width, label=label or None)
    top = 1.1 * max(simulation.peak_bytes, 1)
    step = 2 ** max(math.ceil(math.log2(top / 5)), 0)
    axes.set_yticks(range(0, int(top) + 1, step))
    axes.set_ylim(0, top)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda b, _: bytes_text(b)))
    axes.set_ylabel("memory")
    axes.grid(axis="y", lw=0.4, color="#d5d9df")
    axes.legend(loc="lower right", ncols=6, fontsize=7, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)


def _legend(simulation: Simulation) -> list[Any]:
    from matplotlib.patches import Patch

    used = {kind_of(simulation, e) for c in simulation.classes for e in c.events}
    found = []
    for kind, mark in MARKS.items():
        if kind in used:
            number = -1 if kind in ("U", "X", "C", "wait") else 0
            fill, title = colour(kind, number), f"{mark.letter}: {mark.title}"
            hatch = mark.hatch or None
            found.append(Patch(facecolor=fill, edgecolor="white", hatch=hatch, label=title))
    found.append(Patch(facecolor="none", label=f"step {time_text(simulation.step_us)}"))
    return found

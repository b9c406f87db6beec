"""Terminal: a simulation as a picture of characters, good over ssh and without colour.

A line is a class of ranks, a column a share of the step. `F` fills light, `B` full, `W` half; where
there is room the microbatch stands at a task's start. Under each line, its memory.
"""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from superscaler.simulate.simulation import Event, RankClass, Simulation
from superscaler.units import time_text
from superscaler.view.palette import MARKS, colour, mark_of
from superscaler.view.report import cards, rank_lines
from superscaler.view.rows import kind_of

MOST_CLASSES = 32
_LEVELS = " ▁▂▃▄▅▆▇█"
_LEAST_WIDTH = 20
_LEAST_SHARE = 0.05  # of a column, below which it is empty
_DENSE = 0.9  # tasks a column, above which columns show mixtures


def terminal_picture(simulation: Simulation, width: int) -> RenderableType:
    """The picture, at most `width` columns wide."""
    chosen = _chosen(simulation)
    names = max(len(simulation.classes[k].name) for k in chosen)
    columns = max(width - names - 22, _LEAST_WIDTH)
    lines: list[RenderableType] = [_summary(simulation, width)]
    info = rank_lines(simulation)
    for k in chosen:
        rank_class = simulation.classes[k]
        tail = f" {info[k].busy:>6} {info[k].peak:>9}"
        head = rank_class.name.ljust(names) + " "
        lines.append(Text(head) + _tasks(simulation, rank_class, columns) + Text(tail))
        lines.append(Text(" " * (names + 1)) + _memory(simulation, rank_class, columns))
    lines.append(_axis(simulation, names, columns))
    lines += _legend(simulation)
    hidden = len(simulation.classes) - len(chosen)
    if hidden:
        lines.append(Text(f"{hidden} of {len(simulation.classes)} lines are left out"))
    return Group(*lines)


def picture_text(simulation: Simulation, width: int) -> str:
    """The picture as plain text."""
    console = Console(width=width, color_system=None, force_terminal=False)
    with console.capture() as capture:
        console.print(terminal_picture(simulation, width), soft_wrap=True)
    return capture.get()


def _chosen(simulation: Simulation) -> list[int]:
    """The classes shown: evenly spread where there are too many, first and last among them."""
    count = len(simulation.classes)
    if count <= MOST_CLASSES:
        return list(range(count))
    return sorted({round(i * (count - 1) / (MOST_CLASSES - 1)) for i in range(MOST_CLASSES)})


def _summary(simulation: Simulation, width: int) -> RenderableType:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for card in cards(simulation):
        table.add_row(card.title, Text(card.value, style="bold"), Text(card.more, style="dim"))
    title = (
        f"{simulation.name or 'one step'}: {simulation.world_size} ranks on {simulation.cluster}"
    )
    return Group(Text(title, style="bold", overflow="ellipsis", no_wrap=True), table, Text(""))


def _tasks(simulation: Simulation, rank_class: RankClass, columns: int) -> Text:
    """The compute lane: what takes most of each column; of narrower tasks a mixture."""
    events = [e for e in rank_class.events if e.lane == "compute"]
    calls: dict[tuple[object, ...], int] = {}  # a call that waits in its middle is several events
    for number, event in enumerate(events):
        calls.setdefault((event.function, event.time, event.kind == "wait" and number), number)
    if sum(1 for key in calls if key[2] is False) > _DENSE * columns:
        return _mixture(simulation, events, columns)
    share, owner = [0.0] * columns, [-1] * columns
    for number, event in enumerate(events):
        call = calls[event.function, event.time, event.kind == "wait" and number]
        for x, part in _shares(simulation, event, columns):
            if part > share[x]:
                share[x], owner[x] = part, call
    text = Text()
    for x in range(columns):
        is_first = x == 0 or owner[x] != owner[x - 1]
        if owner[x] < 0 or share[x] < _LEAST_SHARE:
            text.append(" ")
        elif is_first or share[x - 1] < _LEAST_SHARE:
            text.append_text(_run(simulation, events, owner, share, x))
    return text


def _shares(simulation: Simulation, event: Event, columns: int) -> Iterator[tuple[int, float]]:
    """The columns that an event touches, and how much of each it takes."""
    scale = columns / max(simulation.step_us, 1e-9)
    a, b = event.start_us * scale, min(event.end_us * scale, columns)
    for x in range(int(a), min(int(b) + 1, columns)):
        yield x, min(b, x + 1) - max(a, x)


def _mixture(simulation: Simulation, events: list[Event], columns: int) -> Text:
    """Kinds (and idleness) in the proportions of their time: what is left over goes on."""
    parts: list[dict[str, float]] = [{} for _ in range(columns)]
    for event in events:
        kind = kind_of(simulation, event)
        for x, part in _shares(simulation, event, columns):
            parts[x][kind] = parts[x].get(kind, 0.0) + part
    owed: dict[str, float] = {"": 0.0}
    text = Text()
    for column in parts:
        column[""] = 1.0 - sum(column.values())
        for kind, part in column.items():
            owed[kind] = owed.get(kind, 0.0) + part
        kind = max(sorted(owed), key=lambda k: owed[k])
        owed[kind] -= 1.0
        text.append(mark_of(kind).cell if kind else " ")
    return text


def _run(
    simulation: Simulation, events: list[Event], owner: list[int], share: list[float], x: int
) -> Text:
    """The columns that one task fills, from x on, its microbatch first where three or more."""
    event, length = events[owner[x]], 1
    while x + length < len(owner) and owner[x + length] == owner[x]:
        if share[x + length] < _LEAST_SHARE:
            break
        length += 1
    kind = kind_of(simulation, event)
    cells = mark_of(kind).cell * length
    number = str(event.microbatch) if event.microbatch >= 0 else ""
    if number and length >= len(number) + 2:
        cells = number + cells[len(number) :]
    return Text(cells, style=colour("B" if kind in ("F", "W", "BW") else kind, event.microbatch))


def _memory(simulation: Simulation, rank_class: RankClass, columns: int) -> Text:
    """The most bytes alive in each column, of the most on any rank."""
    most = max(simulation.peak_bytes, 1)
    step = max(simulation.step_us, 1e-9)
    points = rank_class.memory or ((0.0, rank_class.resident_bytes),)
    held, peaks, at = 0, [], 0
    for x in range(columns):
        peak = held
        while at < len(points) and points[at][0] <= (x + 1) * step / columns:
            held = points[at][1]
            peak, at = max(peak, held), at + 1
        peaks.append(peak)
    cells = "".join(_LEVELS[round(p / most * (len(_LEVELS) - 1))] for p in peaks)
    return Text(cells, style="dim")


def _axis(simulation: Simulation, names: int, columns: int) -> Text:
    end = time_text(simulation.step_us)
    line = "0" + end.rjust(columns - 1)
    return Text(" " * (names + 1) + line + "   busy      peak", style="dim")


def _legend(simulation: Simulation) -> list[Text]:
    used = {kind_of(simulation, e) for c in simulation.classes for e in c.events[:2000]}
    used = {k for k in used if k != "C"}
    marks = [f"{m.cell * 2} {m.title}" for k, m in MARKS.items() if k in used]
    return [Text("   ".join(marks)), Text("numbers: microbatches; ▂▄▆ memory, of the highest peak")]

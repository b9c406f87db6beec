"""Operator graph: a model's modules as an SVG, coloured by stage, with how each one is split.

Blocks are columns from left to right; inside one, modules follow the order of the computation.
"""

from __future__ import annotations

from dataclasses import dataclass
from xml.sax.saxutils import escape

from superscaler.transform.partition import Partition
from superscaler.view.modules import Column, Node, columns_of, describe, edges_of
from superscaler.view.palette import HUES, NEUTRAL, tinted

_WIDTH, _HEIGHT = 150, 38  # of a node
_GAP_X, _GAP_Y = 46, 14
_TOP, _LEFT = 96, 24
_MOST_LINES = 30  # of a node's tooltip
_FONT = "system-ui, 'DejaVu Sans', sans-serif"


@dataclass(frozen=True)
class _Box:
    x: float
    y: float
    column: int
    row: int
    node: Node


def operator_graph_svg(partition: Partition, title: str = "") -> str:
    """The picture as SVG text."""
    columns = columns_of(partition)
    boxes = [_box(c, r, node) for c, col in enumerate(columns) for r, node in enumerate(col.nodes)]
    width = _LEFT * 2 + len(columns) * (_WIDTH + _GAP_X) - _GAP_X + 20
    width = max(width, 560)
    most = max((len(c.nodes) for c in columns), default=0)
    height = _TOP + most * (_HEIGHT + _GAP_Y) + 20
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="{_FONT}">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        _text(_LEFT, 24, title or "operators by module", 14, "#1c2127", bold=True),
        *_legend(boxes),
        *(_heading(c, column) for c, column in enumerate(columns)),
        *(_edge(boxes[a], boxes[b]) for a, b in edges_of(partition, columns)),
        *(_node(partition, box) for box in boxes),
        "</svg>\n",
    ]
    return "\n".join(parts)


def _box(column: int, row: int, node: Node) -> _Box:
    x = _LEFT + column * (_WIDTH + _GAP_X)
    return _Box(x, _TOP + row * (_HEIGHT + _GAP_Y), column, row, node)


def stage_colour(stage: int) -> str:
    """A stage's colour; what belongs to none is neutral.

    >>> stage_colour(0), stage_colour(-1)
    ('#0072B2', '#8a9099')
    """
    return HUES[stage % len(HUES)] if stage >= 0 else NEUTRAL


def _legend(boxes: list[_Box]) -> list[str]:
    found, x = [], float(_LEFT)
    devices: dict[int, str] = {}
    for box in boxes:
        devices.setdefault(box.node.stage, box.node.devices)
    for stage in sorted(devices):
        label = f"stage {stage}" if stage >= 0 else "no stage"
        text = f"{label}, devices {devices[stage]}"
        found.append(_rect(x, 38, 14, 12, tinted(stage_colour(stage), 0.55), stage_colour(stage)))
        found.append(_text(x + 20, 48, text, 11, "#1c2127"))
        x += 34 + 6.3 * len(text)
    note = "tp÷2: cut in 2 · tpΣ2: partial sums · tp=2: copies · dashed: between stages"
    return [*found, _text(_LEFT, 66, note, 10, "#5b6470")]


def _heading(number: int, column: Column) -> str:
    x = _LEFT + number * (_WIDTH + _GAP_X)
    name = column.name + (f" ({column.count} alike)" if column.count > 1 else "")
    return _text(x, _TOP - 10, _short(name, 26), 11, "#1c2127", bold=True)


def _node(partition: Partition, box: _Box) -> str:
    node, colour = box.node, stage_colour(box.node.stage)
    split = "  ".join(f"{name}{_SIGNS[what]}{size}" for name, size, what in node.split)
    is_cut = any(what != "copy" and name != "mb" for name, _, what in node.split)
    lines = describe(partition, node)
    more = [f"and {len(lines) - _MOST_LINES} more"] if len(lines) > _MOST_LINES else []
    title = "\n".join([f"{node.name}, devices {node.devices}", *lines[:_MOST_LINES], *more])
    fill = tinted(colour, 0.55 if is_cut else 0.82)
    return (
        f"<g><title>{escape(title)}</title>"
        + _rect(box.x, box.y, _WIDTH, _HEIGHT, fill, colour)
        + _text(box.x + 8, box.y + 16, _short(node.name, 22), 11, "#14181c")
        + _text(box.x + 8, box.y + 30, split or "whole", 9.5, "#39414a")
        + "</g>"
    )


_SIGNS = {"split": "÷", "sum": "Σ", "copy": "="}


def _edge(a: _Box, b: _Box) -> str:
    crosses = a.node.stage != b.node.stage and min(a.node.stage, b.node.stage) >= 0
    style = 'stroke="#14181c" stroke-dasharray="5 3"' if crosses else 'stroke="#9aa3ad"'
    return f'<path d="{_path(a, b)}" fill="none" stroke-width="1.2" {style}/>'


def _path(a: _Box, b: _Box) -> str:
    """Straight down to the next row, round the left within a column, else from right to left."""
    if a.column == b.column and b.row == a.row + 1:
        x = a.x + _WIDTH / 2
        return f"M{x} {a.y + _HEIGHT} L{x} {b.y}"
    middle_a, middle_b = a.y + _HEIGHT / 2, b.y + _HEIGHT / 2
    if a.column == b.column:
        bend = a.x - 8 - min(2.0 * abs(b.row - a.row), 12)
        return f"M{a.x} {middle_a} C{bend} {middle_a} {bend} {middle_b} {b.x} {middle_b}"
    start, bend = a.x + _WIDTH, (a.x + _WIDTH + b.x) / 2
    return f"M{start} {middle_a} C{bend} {middle_a} {bend} {middle_b} {b.x} {middle_b}"


def _rect(x: float, y: float, width: float, height: float, fill: str, stroke: str) -> str:
    return (
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="4" fill="{fill}" '
        f'stroke="{stroke}"/>'
    )


def _text(x: float, y: float, text: str, size: float, fill: str, bold: bool = False) -> str:
    weight = ' font-weight="600"' if bold else ""
    return f'<text x="{x}" y="{y}" font-size="{size}" fill="{fill}"{weight}>{escape(text)}</text>'


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else "…" + text[1 - most :]

"""Colours and marks that every picture shares.

Hues tell microbatches (or stages) apart: Okabe and Ito's, which people with any kind of colour
blindness tell apart. What kind a task is never depends on hue: it shows as lightness (F light, B
full, W in between and hatched), and as a letter where there is room.
"""

from __future__ import annotations

from dataclasses import dataclass

HUES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
NEUTRAL = "#8a9099"  # what belongs to no microbatch: updates, barriers
WAIT = "#c9cdd3"


@dataclass(frozen=True, slots=True)
class Mark:
    """How a kind of task looks: `tint` is the share of white in its hue.

    `hatch` is matplotlib's; `cell` fills a character of the terminal; `title` is for legends.
    """

    letter: str
    title: str
    tint: float
    hatch: str
    cell: str


MARKS = {
    "F": Mark("F", "forward", 0.58, "", "░"),
    "B": Mark("B", "backward", 0.0, "", "█"),
    "W": Mark("W", "weight gradients", 0.3, "////", "▒"),
    "BW": Mark("BW", "backward and weight gradients", 0.0, "..", "▓"),
    "U": Mark("U", "update", 0.0, "", "U"),
    "C": Mark("C", "communication", 0.15, "", "≈"),
    "H": Mark("H", "copy to or from the host", 0.3, "--", "="),
    "X": Mark("X", "other", 0.3, "", "x"),
    "wait": Mark("wait", "waiting for communication", 0.0, "", "·"),
}


def mark_of(kind: str) -> Mark:
    """The mark of an event's kind; a kind that is not known looks like "other".

    >>> mark_of("F").title, mark_of("Q").title
    ('forward', 'other')
    """
    return MARKS.get(kind, MARKS["X"])


def colour(kind: str, number: int) -> str:
    """`#rrggbb` of a task of this kind and microbatch (-1: none).

    >>> colour("B", 0), colour("B", 6), colour("U", -1)
    ('#0072b2', '#0072b2', '#8a9099')
    """
    if kind == "wait":
        return WAIT
    base = HUES[number % len(HUES)] if number >= 0 else NEUTRAL
    return tinted(base, mark_of(kind).tint)


def tinted(base: str, share: float) -> str:
    """A colour with this share of white.

    >>> tinted("#000000", 0.5)
    '#808080'
    """
    parts = (int(base[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(p + (255 - p) * share):02x}" for p in parts)

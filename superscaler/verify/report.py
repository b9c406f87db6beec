"""Report: what was compared, how far apart it was, and whether that is near enough."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import Enum
from math import isnan
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table


class Verdict(Enum):
    """What a comparison comes to."""

    EQUAL = "equal"
    ROUNDING = "zero but for rounding"  # judged by the largest gradient, or the loss
    SENSITIVE = "no further than rounding takes it"  # so far goes the untouched model by itself
    DIFFERS = "differs"
    MISSING = "missing"  # no rank holds (all of) it
    UNEXPECTED = "unexpected"  # the ranks have it, the reference has not


_GOOD = (Verdict.EQUAL, Verdict.ROUNDING, Verdict.SENSITIVE)


@dataclass(frozen=True)
class Row:
    """One tensor: `error` is relative to the largest magnitude of the reference."""

    kind: str
    name: str
    error: float
    verdict: Verdict
    where: str = ""  # which rank is furthest off

    @property
    def ok(self) -> bool:
        return self.verdict in _GOOD


@dataclass(frozen=True)
class Report:
    """The outcome of `verify`; `ok` says whether every row is."""

    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    tolerance: float
    dtype: str
    world_size: int
    steps: int
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        return all(row.ok for row in self.rows)

    @property
    def largest_error(self) -> float:
        """The largest relative error of all rows; NaN counts as infinite."""
        return max((_rank(row) for row in self.rows), default=0.0)

    @property
    def failures(self) -> tuple[Row, ...]:
        """The rows that are not ok, the furthest off first."""
        return tuple(sorted((r for r in self.rows if not r.ok), key=_rank, reverse=True))

    @property
    def summary(self) -> str:
        """One line: what came out."""
        what = f"{self.world_size} ranks, {self.steps} steps, {self.dtype}"
        error = f"largest relative error {self.largest_error:.2g}, tolerance {self.tolerance:g}"
        if self.ok:
            count = sum(row.verdict is Verdict.SENSITIVE for row in self.rows)
            but = f" but for rounding in {count} of {len(self.rows)} results" if count else ""
            return f"equal{but}: {what}: {error}"
        return f"NOT equal: {what}: {len(self.failures)} of {len(self.rows)} differ; {error}"

    def to_json(self) -> str:
        """The report as JSON; infinite and undefined errors are texts."""
        data = asdict(self)
        for row, made in zip(data["rows"], self.rows, strict=True):
            row["verdict"] = made.verdict.value
            row["error"] = _number(made.error)
        data |= {"ok": self.ok, "largest_error": _number(self.largest_error)}
        return json.dumps(data, indent=1)

    def table(self, every_row: bool = False) -> Table:
        """A table for a terminal: a line per kind and every row that is out of the ordinary."""
        from rich.table import Table

        table = Table(box=None, pad_edge=False)
        for title in ("what", "tensors", "largest error", "furthest off", "verdict"):
            table.add_column(title, justify="right" if title in _RIGHT else "left")
        for kind in dict.fromkeys(row.kind for row in self.rows):
            _add_kind(table, [row for row in self.rows if row.kind == kind], every_row)
        return table


_RIGHT = ("tensors", "largest error")
_MAX_SHOWN = 20


def _add_kind(table: Table, rows: list[Row], every_row: bool) -> None:
    worst = max(rows, key=_rank)
    bad = sum(not row.ok for row in rows)
    verdict = f"[red]{bad} differ[/]" if bad else "[green]equal[/]"
    table.add_row(worst.kind, str(len(rows)), _shown(worst.error), worst.name, verdict)
    shown = rows if every_row else [row for row in rows if row.verdict is not Verdict.EQUAL]
    shown = sorted(shown, key=lambda row: (row.ok, -_rank(row)))
    for row in shown if every_row else shown[:_MAX_SHOWN]:
        color = "dim" if row.ok else "red"
        verdict = f"[{color}]{row.verdict.value}{f' ({row.where})' if row.where else ''}[/]"
        table.add_row("", "", _shown(row.error), row.name, verdict)
    if not every_row and len(shown) > _MAX_SHOWN:
        table.add_row("", "", "", f"... and {len(shown) - _MAX_SHOWN} more", "")


def _rank(row: Row) -> float:
    return float("inf") if isnan(row.error) else row.error


def _shown(error: float) -> str:
    return f"{error:.1e}" if error else "0"


def _number(error: float) -> Any:
    return error if error < float("inf") else str(error)

"""The scheduler against known orders, and torch.distributed.pipelining's, on synthetic pipelines.

    python tools/bench_schedule.py [--quick] [--devices 4 8 16] [--cells TEXT]
        [--placements linear v looped] [--time-limit 10] [--jobs 1] [--out FILE.md]

Every order is timed by the same replay, with the same costs; gradients leave a stage at the end of
B, also where B and W are one. An order counts where it fits the cell's memory. "ours" is the best
of what the solver makes of the linear, the V and the looped placement, with one copy of the
parameters; "bound" is what nobody can beat on any of the three, "proven" whether no shorter
schedule exists on any of them (or on those of `--placements`). Bidirectional orders, with two
copies, are listed apart, beside ours on two copies.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from scheduling.cells import Cell, cells
from scheduling.torch_orders import FORMS, torch_order

from superscaler.errors import ScheduleError
from superscaler.schedule.bound import lower_bound
from superscaler.schedule.memory import fits, peaks
from superscaler.schedule.portfolio import apply_order, known_orders
from superscaler.schedule.problem import Problem, Schedule
from superscaler.schedule.solver import solve

PLACEMENTS = ("linear", "v", "looped")


@dataclass(frozen=True)
class Row:
    """What came out of one cell: lengths in ticks, by order; only orders that fit."""

    cell: Cell
    others: dict[str, int]
    ours: int
    form: str
    made_by: str
    analytic: int
    bound: int
    seconds: float
    peak: int
    two_copies: dict[str, int]

    @property
    def best(self) -> int:
        return min(self.others.values(), default=0)

    @property
    def proven(self) -> bool:
        return self.bound >= self.ours


def measure(cell: Cell, time_limit_s: float, placements: Sequence[str] = PLACEMENTS) -> Row:
    """Time every order of the cell, and solve it on the placements."""
    others: dict[str, int] = {}
    solved: dict[str, tuple[Problem, Schedule]] = {}
    begun = time.perf_counter()
    problems = {form: cell.problem(form) for form in placements}
    for form, problem in problems.items():
        for name, schedule in known(problem, form, cell):
            if fits(problem, schedule.start):
                others[f"{name} {form}"] = schedule.length
    best_bound = {form: lower_bound(problem) for form, problem in problems.items()}
    shortest = 1 << 60
    for form in sorted(placements, key=lambda f: best_bound[f]):
        if best_bound[form] >= shortest:
            continue  # it cannot win
        try:
            found = solve(problems[form], time_limit_s=time_limit_s)
        except ScheduleError:  # nothing fits on this placement
            best_bound[form] = 1 << 60
            continue
        solved[form] = problems[form], found
        best_bound[form] = max(best_bound[form], found.bound)
        shortest = min(shortest, found.length)
    form, (problem, ours) = min(solved.items(), key=lambda item: item[1][1].length)
    return Row(
        cell,
        others,
        ours.length,
        form,
        ours.made_by,
        min(lower_bound(p) for p in problems.values()),
        min(best_bound.values()),
        time.perf_counter() - begun,
        max(peaks(problem, ours.start)),
        two_copies(cell, time_limit_s) if placements == PLACEMENTS else {},
    )


def two_copies(cell: Cell, time_limit_s: float) -> dict[str, int]:
    """Bidirectional orders that fit, and ours on their placement."""
    problem = cell.problem("bidirectional")
    found = {
        name: schedule.length
        for name, schedule in known(problem, "bidirectional", cell)
        if fits(problem, schedule.start)
    }
    try:
        solved = solve(problem, time_limit_s=time_limit_s)
    except ScheduleError:  # nothing fits
        return found
    return {**found, "ours": solved.length, "bound": solved.bound}


def known(problem: Problem, form: str, cell: Cell) -> list[tuple[str, Schedule]]:
    """Every named order, ours and torch's, that is for this placement."""
    orders = [(order.name, order) for order in known_orders(problem)]
    for name, wanted in FORMS.items():
        order = torch_order(name, cell.devices, cell.microbatches) if wanted == form else None
        if order is not None:
            orders.append((f"torch {order.name}", order))
    bound = lower_bound(problem)
    found = []
    for name, order in orders:
        try:
            found.append((name, apply_order(problem, order, bound=bound)))
        except ScheduleError as error:
            print(f"{cell.name}: {name} does not run: {error}", file=sys.stderr)
    return found


def table(rows: list[Row]) -> str:
    """A line for each cell, and what they add up to."""
    lines = [
        "| devices x microbatches | costs | memory | best other | length | ours | length "
        "| analytic bound | proven bound | proven | seconds | peak |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cell = row.cell
        name = min(row.others, key=lambda n: row.others[n], default="none fits")
        words = [
            f"{cell.devices} x {cell.microbatches}",
            cell.profile,
            f"{cell.memory}",
            name,
            str(row.best or "-"),
            f"{row.made_by} {row.form}",
            f"{row.ours}",
            f"{row.analytic}",
            f"{row.bound}",
            "yes" if row.proven else f"gap {(row.ours - row.bound) / row.ours:.2%}",
            f"{row.seconds:.1f}",
            f"{row.peak / (2 * cell.devices):.2f} of {cell.memory}",
        ]
        lines.append("| " + " | ".join(words) + " |")
    return "\n".join([*lines, "", *summary(rows)])


def summary(rows: list[Row]) -> list[str]:
    """The counts that the targets are about."""
    compared = [r for r in rows if r.others]
    open_cells = [r for r in compared if r.best > r.bound]
    better = [r for r in open_cells if r.ours < r.best]
    return [
        f"cells: {len(rows)}; another order fits the memory in {len(compared)}",
        f"ours above the best other: {sum(r.ours > r.best for r in compared)}",
        f"strictly better: {len(better)} of the {len(open_cells)} where the best other is above "
        "the proven bound",
        f"ours on two copies above the best order on two: {_above_on_two(rows)}",
        f"proven optimal over the placements: {sum(r.proven for r in rows)}",
        f"largest gap otherwise: {max((r.ours - r.bound) / r.ours for r in rows):.2%}",
    ]


def _above_on_two(rows: list[Row]) -> int:
    both = [(r.two_copies["ours"], r.two_copies) for r in rows if "ours" in r.two_copies]
    others = [(ours, [t for n, t in by.items() if n not in ("ours", "bound")]) for ours, by in both]
    return sum(ours > min(ticks) for ours, ticks in others if ticks)


def all_orders(rows: list[Row]) -> str:
    """Every order's length in every cell."""
    lines = ["", "Every order that fits, in ticks:", ""]
    for row in rows:
        shown = ", ".join(f"{n} {t}" for n, t in sorted(row.others.items(), key=lambda i: i[1]))
        lines.append(f"- {row.cell.name}: ours {row.ours}; {shown or 'no other fits'}")
    lines += ["", "Bidirectional, two copies of the parameters, in ticks:", ""]
    for row in rows:
        shown = ", ".join(f"{n} {t}" for n, t in sorted(row.two_copies.items(), key=lambda i: i[1]))
        lines.append(f"- {row.cell.name}: {shown or 'none fits'}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--devices", type=int, nargs="+", default=[4, 8, 16])
    parser.add_argument("--cells", default="", help="only cells whose name has this in it")
    parser.add_argument("--quick", action="store_true", help="4 devices, 4 and 8 microbatches")
    parser.add_argument("--placements", nargs="+", default=PLACEMENTS, choices=PLACEMENTS)
    parser.add_argument("--time-limit", type=float, default=10.0, help="seconds for each placement")
    parser.add_argument("--jobs", type=int, default=1, help="cells at a time")
    parser.add_argument("--out", type=Path, default=Path("build/bench_schedule.md"))
    options = parser.parse_args()
    chosen = cells(tuple(options.devices))
    if options.quick:
        chosen = [c for c in cells((4,)) if c.microbatches <= 8]
    chosen = [c for c in chosen if options.cells in c.name]
    if not chosen:
        sys.exit(f"no cell's name has {options.cells!r} in it; names are as '4 x 8 uniform 0.5x'")
    rows = []
    with ProcessPoolExecutor(options.jobs) as pool:
        many = len(chosen)
        limits, forms = [options.time_limit] * many, [tuple(options.placements)] * many
        for row in pool.map(measure, chosen, limits, forms):
            rows.append(row)
            print(f"{row.cell.name}: {row.best} -> {row.ours}, bound {row.bound}", flush=True)
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(table(rows) + "\n" + all_orders(rows) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()

"""Our plans against the best conventional one, simulated on V100s at the published sizes.

    OMP_NUM_THREADS=1 python tools/bench_plans.py [--models gpt ...] [--devices 4 8 16 32]
        [--jobs 1] [--out build/bench_plans.md]

A conventional plan is dp x tp x pp with or without sequence parallelism, ZeRO 1 to 3 (2 and 3
without a pipeline), recompute of whole blocks, and 1F1B or interleaved 1F1B with two stages a
device; all of them are looked at. Ours adds co-shard, interlaced pipelines, 3F1B and bidirectional
pipelines. Both are simulated by the same simulator on plans/clusters/v100-32g-8.yaml: microbatches
of one sample, a global batch of 256, mixed precision (float16 arithmetic under autocast, float32
parameters, gradients and two float32 states). "out of memory" is above 32e9 bytes on some device.
Any cell can be recomputed with the plan in its row:

    superscaler simulate examples/gpt.py:workload --set ... --plan PLAN --cluster v100-32g-8x4
"""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from planning.cells import Cell, cells
from planning.conventional import conventional
from planning.measure import Measured, Search
from planning.ours import ours


@dataclass(frozen=True)
class Row:
    """What came out of a cell."""

    cell: Cell
    theirs: Measured | None
    mine: Measured | None
    least_bytes: int  # of all conventional plans, for those that do not fit
    tried: int
    seconds: float

    @property
    def speedup(self) -> float:
        if self.theirs is None:
            return float("inf") if self.mine else 0.0
        return self.theirs.step_us / self.mine.step_us if self.mine else 1.0


HEAD = (
    "| cell | conventional | s | GB | ours | s | GB | speed-up |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- |"
)


def main() -> None:
    arguments = _arguments()
    chosen = [
        c
        for c in cells()
        if (not arguments.models or c.model in arguments.models)
        and c.devices in arguments.devices
        and arguments.cells in c.name
    ]
    print(HEAD, flush=True)
    lines = [HEAD]
    with ProcessPoolExecutor(arguments.jobs) as pool:
        rows = []
        for row in pool.map(run, chosen, [arguments.verbose] * len(chosen)):
            rows.append(row)
            lines.append(text(row))
            print(lines[-1], flush=True)
            _write(arguments.out, lines)
    lines.append("\n" + summary(rows))
    print(lines[-1])
    _write(arguments.out, lines)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="*", default=[])
    parser.add_argument("--devices", nargs="*", type=int, default=[4, 8, 16, 32])
    parser.add_argument("--cells", default="", help="only those whose name has this in it")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--verbose", action="store_true", help="every plan tried, to stderr")
    parser.add_argument("--out", default="build/bench_plans.md")
    return parser.parse_args()


def run(cell: Cell, verbose: bool) -> Row:
    began = time.perf_counter()

    def say(line: str) -> None:
        if verbose:
            print(f"{cell.name}: {line}", file=sys.stderr, flush=True)

    search = Search(cell, say)
    theirs = search.best(conventional(cell), float("inf"))
    sizes = [m.peak_bytes for m in search.found if m.peak_bytes]
    least = min(sizes, default=0)
    mine = search.best(ours(cell), theirs.step_us if theirs else float("inf"))
    if mine is None or (theirs is not None and theirs.step_us <= mine.step_us):
        mine = theirs
    return Row(cell, theirs, mine, least, len(search.found), time.perf_counter() - began)


def text(row: Row) -> str:
    speedup = f"{row.speedup:.2f}" if row.theirs else "only ours fits" if row.mine else "none fits"
    theirs = _columns(row.theirs, f"out of memory ({row.least_bytes / 1e9:.0f} GB at least)")
    return f"| {row.cell.name} | {theirs} | {_columns(row.mine, 'out of memory')} | {speedup} |"


def _columns(found: Measured | None, nothing: str) -> str:
    if found is None:
        return f"{nothing} | | "
    microbatches = "..."
    plan = found.candidate.plan(0).replace("microbatches=0", f"microbatches={microbatches}")
    return f"`{plan}` | {found.step_us / 1e6:.2f} | {found.peak_bytes / 1e9:.1f}"


def summary(rows: list[Row]) -> str:
    known = [r for r in rows if r.mine]
    fast = sum(r.speedup >= 1.5 for r in known)
    most = max((r.speedup for r in known if r.theirs), default=0.0)
    only = sum(r.theirs is None for r in known)
    return (
        f"{len(rows)} cells, {sum(r.tried for r in rows)} plans simulated in "
        f"{sum(r.seconds for r in rows):.0f} s: at least 1.5x in {fast}, up to {most:.2f}x where "
        f"both fit, only ours fits in {only}"
    )


def _write(path: str, lines: list[str]) -> None:
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

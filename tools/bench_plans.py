"""Our plans against the best conventional one, simulated on V100s at the published sizes.

    OMP_NUM_THREADS=1 python tools/bench_plans.py [--models gpt ...] [--devices 4 8 16 32]
        [--jobs 1] [--out build/bench_plans.md] [--improve | --again | --afresh] [--plan PLAN]

A conventional plan is dp x tp x pp with or without sequence parallelism, ZeRO 1 to 3 (2 and 3
without a pipeline), recompute of whole blocks, and 1F1B or interleaved 1F1B with two stages a
device; each of them is simulated, or ruled out by a floor of its time or its memory
(planning/thin.py). Ours add co-shard, blocks treated in two ways (none, offload, co-shard,
recompute: as few in the slower way as the memory allows), interlaced pipelines, huge vocabularies
over all devices, sequences split through attention, 3F1B, stages placed by the solver and
bidirectional pipelines. The best of either side is simulated whole, by the same simulator, on
plans/clusters/v100-32g-8.yaml: microbatches of one sample, a global batch of 256 (evoformer: 128,
and from few blocks), mixed precision (float16 arithmetic under autocast, float32 parameters,
gradients and two float32 states), 12 GB/s between each device and its host, each way. "out of
memory" is above 32e9 bytes on some device, or 384e9 in a host. "At most" is the speed-up that no
plan can be above: every kernel of the step once, for the whole batch at a time, with nothing waited
for, shared evenly by the devices (planning/bound.py). Rows of runs before are kept (beside the
table, as JSON). Any number in the table can be recomputed from its row, in a minute:

    python tools/bench_plans.py --cells 'swin 32L/512 on 4' --plan 'coshard(hybrid(dp=4, ...), ...)'
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from planning.bound import least_us
from planning.cells import Cell, cells
from planning.conventional import Candidate, conventional, known_candidate
from planning.measure import Measured, Search
from planning.ours import flat, ours, variants
from planning.some import fewest, mixes, of_first_blocks
from planning.thin import simulated

BEST = 2  # of our kinds of plans, that are varied
HOST_SHARE = 0.95  # of its host's memory, up to which a mix may go: floors tell a little less
WORTH_VARYING = 1.1  # a kind of plan is, up to so much above the best conventional plan


@dataclass(frozen=True)
class Best:
    """A plan that fits: seconds of its step, those that devices compute and those that they wait
    for communication (the rest is idle), and the fullest device's GB."""

    plan: str
    step_s: float
    compute_s: float
    exposed_s: float
    peak_gb: float

    @property
    def idle_s(self) -> float:
        return max(0.0, self.step_s - self.compute_s - self.exposed_s)


@dataclass(frozen=True)
class Row:
    """What came out of a cell."""

    cell: str
    theirs: Best | None
    mine: Best | None
    least_gb: float  # of all conventional plans, for those that do not fit
    bound_s: float  # no plan's step is shorter
    tried: int
    seconds: float

    @property
    def speedup(self) -> float:
        if self.theirs is None:
            return float("inf") if self.mine else 0.0
        return self.theirs.step_s / self.mine.step_s if self.mine else 1.0

    @property
    def most(self) -> float:
        """The speed-up that no plan can be above."""
        return self.theirs.step_s / self.bound_s if self.theirs else float("inf")

    @property
    def why(self) -> str:
        """Where the difference comes from."""
        if self.mine is None:
            return "nothing fits"
        if self.theirs is None:
            return f"conventional plans need {self.least_gb:.0f} GB at least"
        names = {"compute": "compute_s", "exposed communication": "exposed_s", "idle": "idle_s"}
        both = [(n, getattr(self.theirs, a), getattr(self.mine, a)) for n, a in names.items()]
        if self.theirs == self.mine:
            return "no plan of ours is shorter: " + ", ".join(f"{n} {a:.1f} s" for n, a, _ in both)
        return ", ".join(f"{n} {a:.1f} to {b:.1f} s" for n, a, b in both)


Old = Callable[[Search, Row], Row]
CONVENTIONS = __doc__[__doc__.index("A conventional plan is") :]
HEAD = (
    "| cell | conventional | s | GB | ours | s | GB | speed-up | at most | why |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
)


def main() -> None:
    arguments = _arguments()
    out = Path(arguments.out)
    asked = [
        c
        for c in cells()
        if (not arguments.models or c.model in arguments.models)
        and c.devices in arguments.devices
        and arguments.cells in c.name
    ]
    if arguments.plan:
        for cell in asked:
            print(f"{cell.name}: {recomputed(cell, arguments.plan)}", flush=True)
        return
    known = {} if arguments.afresh else _known(out)
    old = _again if arguments.again else _improved
    new = [c for c in asked if arguments.improve or arguments.again or c.name not in known]
    with ProcessPoolExecutor(arguments.jobs) as pool:
        waiting = [
            pool.submit(run, cell, arguments.verbose, known.get(cell.name), old) for cell in new
        ]
        for done in as_completed(waiting):
            row = done.result()
            known[row.cell] = row
            print(text(row), flush=True)
            _write(out, known)
    _write(out, known)
    print(summary(list(known.values())))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="*", default=[])
    parser.add_argument("--devices", nargs="*", type=int, default=[4, 8, 16, 32])
    parser.add_argument("--cells", default="", help="only those whose name has this in it")
    parser.add_argument("--plan", default="", help="simulate this one in each of those cells")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--verbose", action="store_true", help="every plan tried, to stderr")
    before = parser.add_mutually_exclusive_group()
    before.add_argument("--improve", action="store_true", help="rows of runs before, by mixes")
    before.add_argument(
        "--again", action="store_true", help="rows of runs before, with today's compiler"
    )
    before.add_argument("--afresh", action="store_true", help="forget the rows of runs before")
    parser.add_argument("--out", default="build/bench_plans.md")
    return parser.parse_args()


def recomputed(cell: Cell, plan: str) -> str:
    """A plan of a cell, at full depth, with all microbatches."""
    found = simulated(cell, cell.full_depth, plan, cell.global_batch, cell.cluster)
    return f"{found.step_us / 1e6:.2f} s, {found.peak_bytes / 1e9:.1f} GB"


def run(cell: Cell, verbose: bool, before: Row | None = None, old: Old | None = None) -> Row:
    """A new row, or what `old` makes of the row `before`."""
    began = time.perf_counter()

    def say(line: str) -> None:
        if verbose:
            print(f"{cell.name}: {line}", file=sys.stderr, flush=True)

    search = Search(cell, say)
    row = old(search, before) if old and before and before.mine else _searched(search)
    seconds = time.perf_counter() - began
    return replace(row, tried=row.tried + len(search.estimated), seconds=row.seconds + seconds)


def _searched(search: Search) -> Row:
    cell = search.cell
    theirs = search.best(conventional(cell), float("inf"))
    least = search.least_bytes
    mine = _ours(search, theirs.step_us if theirs else float("inf"))
    if mine is None or (theirs is not None and theirs.step_us <= mine.step_us):
        mine = theirs
    sides = _best(cell, theirs), _best(cell, mine)
    return Row(cell.name, *sides, least / 1e9, least_us(cell) / 1e6, 0, 0.0)


def _again(search: Search, before: Row) -> Row:
    """The row after a change of the compiler: conventional plans are searched, and the best of ours
    that was known is simulated."""
    assert before.mine is not None
    theirs = search.best(conventional(search.cell), float("inf"))
    least_gb = search.least_bytes / 1e9
    mine = search.simulated(known_candidate(search.cell, before.mine.plan))
    found = [m for m in (theirs, mine) if m is not None and m.fits]
    best = min(found, key=lambda m: m.step_us, default=None)
    sides = _best(search.cell, theirs), _best(search.cell, best)
    least_s = least_us(search.cell) / 1e6
    return replace(before, theirs=sides[0], mine=sides[1], least_gb=least_gb, bound_s=least_s)


def _improved(search: Search, before: Row) -> Row:
    """The row with a better plan of ours, where a mix is one."""
    assert before.mine is not None
    to_beat = 1e6 * before.mine.step_s
    mine = search.best(_mixed(search, to_beat), to_beat)
    return replace(before, mine=_best(search.cell, mine)) if mine else before


def _ours(search: Search, to_beat: float) -> Measured | None:
    """The kinds of plans first, then variants of the best, then different ways for some blocks."""
    cell = search.cell
    kinds = ours(cell)
    first = search.estimates(kinds, WORTH_VARYING * to_beat)
    varied = variants(cell, [m.candidate for m in first[:BEST]])
    second = search.estimates([*kinds, *varied], WORTH_VARYING * to_beat)
    some = of_first_blocks(cell, [m.candidate for m in second[:BEST]])
    some += _mixed(search, min([to_beat, *(m.step_us for m in second)]))
    return search.best(list(dict.fromkeys([*kinds, *varied, *some])), to_beat)


def _mixed(search: Search, shortest: float) -> list[Candidate]:
    """The mixes that were tried at full depth, those first that may be the shortest."""
    cell, capacities = search.cell, (search.capacity, HOST_SHARE * search.host_capacity)
    found: list[Candidate] = []
    bases = search.fastest(flat(cell))
    for mix in mixes(cell, bases, search.floor, *capacities, shortest):
        if mix.step_us < shortest:
            found += fewest(cell, mix, search.peak, search.capacity)
            shortest = search.shortest(found, shortest)
    return found


def _best(cell: Cell, found: Measured | None) -> Best | None:
    if found is None:
        return None
    plan = found.candidate.plan(cell.global_batch // found.candidate.samples)
    times = (found.step_us / 1e6, found.compute_us / 1e6, found.exposed_us / 1e6)
    return Best(plan, *times, found.peak_bytes / 1e9)


def text(row: Row) -> str:
    speedup = f"{row.speedup:.2f}" if row.theirs else "only ours fits" if row.mine else "none fits"
    both = f"{_columns(row.theirs)} | {_columns(row.mine)}"
    most = f"{row.most:.2f}" if row.theirs else ""
    return f"| {row.cell} | {both} | {speedup} | {most} | {row.why} |"


def _columns(found: Best | None) -> str:
    if found is None:
        return "out of memory | | "
    return f"`{found.plan}` | {found.step_s:.2f} | {found.peak_gb:.1f}"


def summary(rows: list[Row]) -> str:
    known = [r for r in rows if r.mine]
    fast = sum(r.speedup >= 1.5 for r in known)
    most = max((r.speedup for r in known if r.theirs), default=0.0)
    only = sum(r.theirs is None for r in known)
    never = sum(r.most < 1.5 for r in known)
    return (
        f"{len(rows)} cells, {sum(r.tried for r in rows)} plans estimated in "
        f"{sum(r.seconds for r in rows):.0f} s: at least 1.5x in {fast}, up to {most:.2f}x where "
        f"both fit, only ours fits in {only}; no plan can reach 1.5x in {never}"
    )


def _known(out: Path) -> dict[str, Row]:
    """The rows of runs before, by cell."""
    file = out.with_suffix(".json")
    rows = json.loads(file.read_text()) if file.exists() else []
    for row in rows:
        for side in ("theirs", "mine"):
            row[side] = row[side] and Best(**row[side])
    return {row["cell"]: Row(**row) for row in rows}


def _write(out: Path, known: dict[str, Row]) -> None:
    """The table, in the order of cells, and its rows as JSON."""
    order = [c.name for c in cells()]
    rows = sorted(known.values(), key=lambda row: order.index(row.cell))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".json").write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    lines = [HEAD, *(text(row) for row in rows), "", summary(rows), "", CONVENTIONS]
    out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

"""Cuts, devices and order found together, against zero-bubble orders with the best cuts for them.

    python tools/bench_placement.py --devices 8 --microbatches 16 --seconds 60

The model: `--layers` equal layers per device, and an embedding and a head that make an even cut's
first and last stage 1.6 times as long as the others. Memory: activations of `--memory` x devices
stages on each device; each layer is on one device. Times in ticks: a stage of an even cut is 580.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial

from superscaler.errors import ScheduleError
from superscaler.schedule.memory import fits
from superscaler.schedule.orders import ORDERS, PipelineOrder
from superscaler.schedule.orders.known import zero_bubble
from superscaler.schedule.placement import (
    Cut,
    Job,
    LayerCost,
    balanced_cuts,
    even_cuts,
    place,
    placement_problem,
)
from superscaler.schedule.placement.moves import moves
from superscaler.schedule.portfolio import apply_order
from superscaler.schedule.problem import Schedule

STAGE = (200, 220, 160)  # F, B, W of a stage in the middle of an even cut
LATENCY = 10
ROUNDS = 200

Row = tuple[str, str, Schedule, Cut]
Make = Callable[[Sequence[int], int], PipelineOrder]


def main() -> None:
    """Prints a line for each order and way to cut, then ours."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--devices", type=int, default=8)
    parser.add_argument("--microbatches", type=int, default=16)
    parser.add_argument("--layers", type=int, default=4, help="layers per device")
    parser.add_argument("--memory", type=float, default=1.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    given = parser.parse_args()
    job = heavy_ends(given.devices, given.microbatches, given.layers, given.memory)
    rows = [*_known(job, "zb_h1", _linear(job)), *_known(job, "zb_v", _v(job))]
    rows += [*_known(job, "capped h", _linear(job)), *_known(job, "capped v", _v(job))]
    rows.append(_ours(job, given.seconds))
    _print(rows)


def heavy_ends(devices: int, microbatches: int, per_device: int, memory: float) -> Job:
    """Equal layers between an embedding and a head that each take 0.6 of a stage."""
    layer = LayerCost(*(t // per_device for t in STAGE), activation=2, kept=2)
    end = LayerCost(*(t * 6 // 10 for t in STAGE))
    layers = (end, *[layer] * (devices * per_device), end)
    capacity = int(memory * devices * per_device * layer.activation)
    return Job(layers, devices, microbatches, capacity, LATENCY)


def _linear(job: Job) -> tuple[int, ...]:
    return tuple(range(job.num_devices))


def _v(job: Job) -> tuple[int, ...]:
    return (*_linear(job), *_linear(job)[::-1])


def _known(job: Job, name: str, devices: tuple[int, ...]) -> list[Row]:
    """A known order with even cuts, with balanced stages, and with the best cuts for it."""
    count = len(devices)
    inner = even_cuts(len(job.layers) - 2, count)  # embedding and head go with their neighbours
    even = Cut((0, *(c + 1 for c in inner[1:])), devices)
    balanced = Cut(balanced_cuts(job.layers, count), devices)
    rows = []
    for cut, how in ((even, "even"), (balanced, "balanced stages")):
        schedule = _timed(job, name, cut)
        if schedule is not None:
            rows.append((name, how, schedule, cut))
    best = _descend(job, lambda cut: _timed(job, name, cut), [row[3] for row in rows])
    return [*rows, (name, "best for the order", *best)]


def _family(job: Job, name: str) -> list[Make]:
    """The orders that a name stands for: "capped" are those of its kind that take less memory."""
    count = job.num_devices
    if name == "capped h":
        return [
            partial(zero_bubble, held=held, ahead=ahead, name=name)
            for held in range(2, 2 * count)
            for ahead in (1, 2)
        ]
    return [ORDERS[n] for n in (("zb_v", "v_half", "v_min") if name == "capped v" else (name,))]


def _timed(job: Job, name: str, cut: Cut) -> Schedule | None:
    """The shortest schedule of a family of orders that fits the memory."""
    problem = placement_problem(job, cut)
    found = []
    for make in _family(job, name):
        try:
            found.append(apply_order(problem, make(cut.devices, job.num_microbatches)))
        except ScheduleError:
            continue  # the order is for other numbers of devices or microbatches
    fitting = [s for s in found if fits(problem, s.start)]
    return min(fitting, key=lambda s: s.length, default=None)


def _descend(
    job: Job, timed: Callable[[Cut], Schedule | None], cuts: Sequence[Cut]
) -> tuple[Schedule, Cut]:
    """The best of a few cuts, moved by a layer as long as it helps, or balances at no cost."""

    def worth(schedule: Schedule, cut: Cut) -> tuple[int, list[int]]:
        return schedule.length, sorted(job.loads(cut), reverse=True)

    known = [(s, c) for c in cuts if (s := timed(c)) is not None]
    best = min(known, key=lambda pair: worth(*pair))
    for _ in range(ROUNDS):
        for cut in moves(job, best[1], 1, is_free=False):
            schedule = timed(cut)
            if schedule is not None and worth(schedule, cut) < worth(*best):
                best = (schedule, cut)
                break
        else:
            break
    return best


def _ours(job: Job, seconds: float) -> Row:
    begun = time.perf_counter()
    found = place(
        job.layers,
        job.num_devices,
        job.num_microbatches,
        memory=job.memory,
        latency=job.latency,
        time_limit_s=seconds,
    )
    how = f"{found.kind}, {found.tried} tried, {time.perf_counter() - begun:.0f} s"
    return ("ours", how, found.schedule, Cut(found.cuts, found.devices))


def _print(rows: Sequence[Row]) -> None:
    ours = rows[-1][2].length
    print(f"{'order':8} {'cuts':26} {'ticks':>7} {'bound':>7} {'ours saves':>10}  layers per stage")
    for name, how, schedule, cut in rows:
        saved = 1 - ours / schedule.length
        sizes = " ".join(map(str, cut.sizes(_num_layers(rows))))
        print(f"{name:8} {how:26} {schedule.length:7} {schedule.bound:7} {saved:10.1%}  {sizes}")
    print(f"devices of ours: {' '.join(map(str, rows[-1][3].devices))}")


def _num_layers(rows: Sequence[Row]) -> int:
    """Even cuts leave one layer, the head, to the last stage beside its share."""
    cuts = rows[0][3].cuts
    return 2 * cuts[-1] - cuts[-2] + 1


if __name__ == "__main__":
    main()

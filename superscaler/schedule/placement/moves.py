"""Moves: placements next to a given one."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from superscaler.schedule.placement.layers import Cut, Job


def moves(job: Job, cut: Cut, most: int, *, is_free: bool) -> Iterator[Cut]:
    """One layer more or less for a stage, at its neighbour's cost or that of one farther away,
    those that take from the fullest device first; with `is_free` also stages that change or swap
    devices, split, or join their neighbour."""
    nearby = [*_shifted(job, cut)]
    if is_free:
        nearby += [*_swapped(cut), *_moved(job, cut, most), *_split(job, cut, most), *_joined(cut)]
    whole = {c: None for c in nearby if len(set(c.devices)) == job.num_devices}
    yield from sorted(whole, key=lambda c: sorted(job.loads(c), reverse=True))


def _shifted(job: Job, cut: Cut) -> Iterator[Cut]:
    """All boundaries from one stage to another moved by a layer: the one gains, the other loses."""
    count, total = len(cut.cuts), len(job.layers)
    for first in range(1, count):
        for last in range(first, count):
            for step in (-1, 1):
                cuts = tuple(c + step if first <= s <= last else c for s, c in enumerate(cut.cuts))
                if all(a < b for a, b in zip(cuts, (*cuts[1:], total))):
                    yield Cut(cuts, cut.devices)


def _swapped(cut: Cut) -> Iterator[Cut]:
    for a, b in combinations(range(len(cut.devices)), 2):
        if cut.devices[a] != cut.devices[b]:
            devices = list(cut.devices)
            devices[a], devices[b] = devices[b], devices[a]
            yield Cut(cut.cuts, tuple(devices))


def _moved(job: Job, cut: Cut, most: int) -> Iterator[Cut]:
    for stage in range(len(cut.devices)):
        for device in range(job.num_devices):
            if device != cut.devices[stage] and cut.devices.count(device) < most:
                devices = (*cut.devices[:stage], device, *cut.devices[stage + 1 :])
                yield Cut(cut.cuts, devices)


def _split(job: Job, cut: Cut, most: int) -> Iterator[Cut]:
    """The end of a stage as a stage of its own on another device."""
    ends = (*cut.cuts[1:], len(job.layers))
    for stage, (begin, end) in enumerate(zip(cut.cuts, ends)):
        for at in {begin + 1, (begin + end) // 2, end - 1} - {begin, end}:
            cuts = (*cut.cuts[: stage + 1], at, *cut.cuts[stage + 1 :])
            for device in range(job.num_devices):
                if cut.devices.count(device) < most:
                    for new in (stage, stage + 1):
                        devices = (*cut.devices[:new], device, *cut.devices[new:])
                        yield Cut(cuts, devices)


def _joined(cut: Cut) -> Iterator[Cut]:
    """A stage given to its predecessor."""
    for stage in range(1, len(cut.cuts)):
        cuts = (*cut.cuts[:stage], *cut.cuts[stage + 1 :])
        for gone in (stage - 1, stage):
            yield Cut(cuts, (*cut.devices[:gone], *cut.devices[gone + 1 :]))

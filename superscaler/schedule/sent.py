"""Sent: what tasks send each other as works on the lanes of links."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from superscaler.schedule.costs import Part, Transfer
from superscaler.schedule.problem import Edge, Kind, Lane, Work
from superscaler.schedule.tasks import TaskGraph

SMALL = 0.01  # of what the fullest group computes: lanes busy for less are not worth deciding


@dataclass
class Sent:
    """Lanes and works that come after those of the tasks, their edges; and the ticks between tasks
    where nothing is decided."""

    lanes: list[Lane] = field(default_factory=list)
    works: list[Work] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)
    latency: dict[tuple[int, int], int] = field(default_factory=dict)


@dataclass
class _Bundle:
    """What the same tasks send over the same links, together where messages may be."""

    moving_us: float = 0.0
    latency_us: float = 0.0
    readers: dict[int, None] = field(default_factory=dict)  # in the order that they are named

    @property
    def duration_us(self) -> float:
        return self.latency_us + self.moving_us


Link = tuple[int, str]  # a group of devices and the name of a link of theirs
# by who sends (where nobody does: who reads), and over which links
Bundles = dict[tuple[tuple[int, ...], tuple[int, ...], tuple[Link, ...]], _Bundle]


def sent_between(
    tasks: TaskGraph,
    transfers: Sequence[Transfer],
    groups: Sequence[tuple[int, ...]],
    works: Sequence[Work],
    tick_us: float,
    links: bool = True,
) -> Sent:
    """Works and lanes for `transfers` between `works`, which are the tasks on one lane a group.

    A critical path waits for a lane no longer than the lane is busy. So those that are busy for
    less than SMALL of the step are left out (all without `links`), and what takes no other lane is
    a latency.
    """
    bundles = _bundled(tasks, transfers, groups)
    busy: dict[Link, float] = defaultdict(float)
    for (_, _, taken), bundle in bundles.items():
        for link in taken if links else ():
            busy[link] += bundle.duration_us
    least = SMALL * tick_us * _longest_lane(works)
    lanes = sorted(link for link, us in busy.items() if us >= least)
    number = {link: len(groups) + i for i, link in enumerate(lanes)}
    sent = Sent([Lane(groups[group], name) for group, name in lanes])
    for (sources, _, taken), bundle in bundles.items():
        on = tuple(number[link] for link in taken if link in number)
        ticks = round(bundle.duration_us / tick_us)
        if on and ticks:
            _add_work(sent, works, sources, on, ticks, list(bundle.readers))
            continue
        for pair in ((s, r) for s in sources for r in bundle.readers):
            sent.latency[pair] = max(sent.latency.get(pair, 0), ticks)
    return sent


def _bundled(
    tasks: TaskGraph, transfers: Sequence[Transfer], groups: Sequence[tuple[int, ...]]
) -> Bundles:
    group_of = {d: i for i, group in enumerate(groups) for d in group}
    found: Bundles = defaultdict(_Bundle)

    def numbers(parts: tuple[Part, ...]) -> tuple[int, ...]:
        return tuple(tasks.number[part] for part in parts)

    for t in transfers:
        links = tuple(sorted({(group_of[d], t.link) for d in t.devices}))
        readers = numbers(t.readers)
        bundle = found[numbers(t.sources), () if t.sources else readers, links]
        bundle.moving_us += t.duration_us - t.latency_us
        bundle.latency_us = max(bundle.latency_us, t.latency_us)
        bundle.readers.update(dict.fromkeys(readers))
    return found


def _longest_lane(works: Sequence[Work]) -> int:
    """The ticks that the fullest group of devices computes."""
    busy: dict[int, int] = defaultdict(int)
    for work in works:
        for lane in work.lanes:
            busy[lane] += work.duration
    return max(busy.values(), default=0)


def _add_work(
    sent: Sent,
    works: Sequence[Work],
    sources: tuple[int, ...],
    lanes: tuple[int, ...],
    ticks: int,
    readers: Sequence[int],
) -> None:
    """It belongs to the stage that sends, and to a microbatch where all senders do."""
    number = len(works) + len(sent.works)
    microbatches = {works[s].microbatch for s in sources}
    microbatch = min(microbatches) if len(microbatches) == 1 else -1
    stage, chain = (works[sources[0]].stage, works[sources[0]].chain) if sources else (-1, 0)
    maker = works[sources[0]].name if sources else "at rest"
    name = f"{number}: {maker} to {works[readers[0]].name}"
    sent.works.append(Work(name, Kind.COMMUNICATION, stage, microbatch, lanes, ticks, chain))
    sent.edges += [Edge(s, number) for s in sources]
    sent.edges += [Edge(number, r) for r in readers]

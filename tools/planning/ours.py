"""Our plans: what SuperScaler adds to the conventional ones for the model at hand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import product

from planning.cells import Cell
from planning.conventional import Candidate, conventional

PARTS = (1, 2, 4, 8)


def ours(cell: Cell) -> list[Candidate]:
    """Plans that others cannot express; every conventional plan is one of ours as well."""
    plain = [c for c in conventional(cell) if c.is_plain]
    pipelines = [c for c in plain if c.stages > 1 and c.chunks == 1 and "zero" not in c.text]
    found = [*plain_with_coshard(cell, plain), *_bidirectional(cell, pipelines)]
    found += [*_placed(pipelines), *_placed(plain_with_coshard(cell, pipelines))]
    simple = [c for c in pipelines if "sequence" not in c.text]
    if "embedding" in cell.facts:
        found += _renamed(cell, simple, "interlaced")
        found += _over_replicas(cell, [c for c in plain if "zero=3" not in c.text])
    if "first" in cell.facts:
        found += _renamed(cell, simple, "three_f_one_b")
    return found


def plain_with_coshard(cell: Cell, plain: list[Candidate]) -> Iterator[Candidate]:
    """Attention and feed-forward in parts, run again part by part, in place of whole layers."""
    for c, parts in product(plain, PARTS):
        where = f"parts={parts}, where={cell.blocks!r}"
        inner = f"coshard({Candidate.inner}, {where})"
        yield replace(c, text=f"coshard({c.text}, {where})", inner=inner)


def _bidirectional(cell: Cell, pipelines: list[Candidate]) -> Iterator[Candidate]:
    """Both directions at once; half as many microbatches, of twice the samples."""
    for c in pipelines:
        if c.stages % 2 == 0 and cell.global_batch % (2 * c.samples) == 0:
            for order in ("dualpipe", "auto"):
                more = f"microbatches={{m}}, placement='bidirectional', order={order!r}"
                text = c.text.replace("microbatches={m}", more)
                yield replace(c, text=text, samples=2 * c.samples)


def _over_replicas(cell: Cell, plain: list[Candidate]) -> Iterator[Candidate]:
    """The vocabulary over all devices, the other layers in replicas."""
    facts = ", ".join(f"{key}={value!r}" for key, value in cell.facts.items())
    made = [
        replace(c, text=f"vocabulary_parallel({c.text}, {facts})")
        for c in plain
        if c.stages == 1 and "dp=" in c.text
    ]
    yield from made
    yield from plain_with_coshard(cell, made)


def _placed(pipelines: Iterable[Candidate]) -> Iterator[Candidate]:
    """Stage cuts, devices and order by the solver."""
    for c in pipelines:
        text = c.text.replace("={m}", "={m}, order='auto', placement='free'", 1)
        yield replace(c, text=text)


def _renamed(cell: Cell, pipelines: list[Candidate], policy: str) -> Iterator[Candidate]:
    """Pipelines by another policy, with the cell's facts, plain and with co-shard."""
    facts = ", ".join(f"{key}={value!r}" for key, value in cell.facts.items())
    made = [
        replace(
            c,
            text=c.text.replace("hybrid(", f"{policy}(").replace("={m}", f"={{m}}, {facts}"),
        )
        for c in pipelines
    ]
    yield from made
    yield from plain_with_coshard(cell, made)

"""Our plans: what SuperScaler adds to the conventional ones for the model at hand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import product

from planning.cells import Cell
from planning.conventional import MICROBATCHES, Candidate, conventional

PARTS = (1, 2, 4, 8)
FIRST_PARTS = (1, 4)


def flat(cell: Cell) -> list[Candidate]:
    """Those without a pipeline, and with nothing done for the memory's sake but ZeRO."""
    plain = [c for c in conventional(cell) if c.is_plain and c.stages == 1]
    found = [*plain, *(c for c in _context(cell) if c.stages == 1)]
    return [*found, *(_over_replicas(cell, plain) if cell.embedding else [])]


def ours(cell: Cell) -> list[Candidate]:
    """Plans that others cannot express, as far as they differ in kind: `variants` of the best of
    them come after. Every conventional plan is one of ours as well."""
    plain = [c for c in conventional(replace(cell, most_stages=cell.layers)) if c.is_plain]
    plain = [c for c in plain if c.stages > 1 or "dp=" not in c.text or "zero=" in c.text]
    flat = [c for c in plain if c.stages == 1]  # ZeRO 1 takes no longer than none
    pipelines = [c for c in plain if _is_simple(c) and "sequence" not in c.text]
    if cell.count:
        whole = [c for c in pipelines if not cell.count % c.stages]
        found = [*flat, *_renamed(cell, whole, "three_f_one_b")]
        return [*found, *_coshard(cell, found, FIRST_PARTS)]
    found = [*plain, *_context(cell)]
    if cell.embedding:
        found += _renamed(cell, pipelines, "interlaced")
        found += _over_replicas(cell, [c for c in flat if "zero=3" not in c.text])
    return [*found[len(plain) :], *_coshard(cell, found, FIRST_PARTS)]


def _context(cell: Cell) -> Iterator[Candidate]:
    """The sequence over devices through attention, keys and values gathered or in a ring."""
    widths = [n for n in (2, 4, 8) if cell.has_attention and cell.devices % n == 0]
    for cp, tp, pp, ring in product(widths, (1, 2, 4, 8), (1, 2, 4, 8), (False, True)):
        dp, rest = divmod(cell.devices, cp * tp * pp)
        if rest or not dp or cell.heads % tp:
            continue
        for zero in (1,) if pp > 1 else (1, 2, 3):
            ways = [f"{k}={v}" for k, v in (("dp", dp), ("tp", tp)) if v > 1]
            more = [f"zero={zero}", *(["ring=True"] if ring else []), MICROBATCHES]
            outer = [f"pp={pp}"] if pp > 1 else []
            text, inside = (
                f"context_parallel({', '.join([f'cp={cp}', *ways, *middle, *more])})"
                for middle in (outer, [])
            )
            yield Candidate(text, inside, inside, dp, dp * cp * tp, pp)


def variants(cell: Cell, best: Iterable[Candidate]) -> list[Candidate]:
    """Of good plans: more parts, stage cuts and orders by the solver, both directions at once."""
    bases = list(dict.fromkeys(c.base or c for c in best))
    found = [*bases, *_coshard(cell, bases, PARTS)]
    pipelines = [c for c in found if _is_simple(c) and c.is_1f1b]
    return [*found, *_placed(pipelines), *_bidirectional(cell, pipelines)]


def _coshard(cell: Cell, plain: Iterable[Candidate], parts: Iterable[int]) -> Iterator[Candidate]:
    """Attention and feed-forward in parts, run again part by part, in place of whole layers."""
    for c, count in product(list(plain), list(parts)):
        wrapped = c.within("coshard", f"parts={count}, where={cell.blocks!r}")
        yield replace(wrapped, fast=c.fast, is_plain=False, base=c)


def _is_simple(c: Candidate) -> bool:
    """A pipeline of one stage a device, without ZeRO."""
    return c.stages > 1 and c.chunks == 1 and "zero" not in c.text


def _bidirectional(cell: Cell, pipelines: list[Candidate]) -> Iterator[Candidate]:
    """Both directions at once; half as many microbatches, of twice the samples."""
    for c in pipelines:
        if c.stages % 2 == 0 and cell.global_batch % (2 * c.samples) == 0:
            for order in ("dualpipe", "auto"):
                more = f"{MICROBATCHES}, placement='bidirectional', order={order!r}"
                text = c.text.replace(MICROBATCHES, more)
                yield replace(c, text=text, samples=2 * c.samples, is_1f1b=False, is_filled=False)


def _over_replicas(cell: Cell, plain: list[Candidate]) -> list[Candidate]:
    """The vocabulary over all devices, the other layers in replicas."""
    facts = f"embedding={cell.embedding!r}, head={cell.head!r}"
    return [c.within("vocabulary_parallel", facts) for c in plain if "dp=" in c.text]


def _placed(pipelines: Iterable[Candidate]) -> Iterator[Candidate]:
    """Stage cuts, devices and order by the solver."""
    for c in pipelines:
        text = c.text.replace(MICROBATCHES, f"{MICROBATCHES}, order='auto', placement='free'", 1)
        yield replace(c, text=text, is_1f1b=False, is_filled=False)


def _renamed(cell: Cell, pipelines: list[Candidate], policy: str) -> list[Candidate]:
    """Pipelines by another policy, with what it has to know of the model."""
    facts = f"embedding={cell.embedding!r}, head={cell.head!r}"
    if policy == "three_f_one_b":
        facts = f"layers={cell.repeated!r}, count={cell.count}, first={cell.first!r}"
    return [
        replace(
            c,
            text=c.text.replace("hybrid(", f"{policy}(", 1).replace("={m}", f"={{m}}, {facts}", 1),
            is_1f1b=False,  # filled like it: nf1b
        )
        for c in pipelines
    ]

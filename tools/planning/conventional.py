"""Conventional plans: every dp x tp x pp of the devices, with and without sequence parallelism,
ZeRO, recompute, 1F1B and interleaved 1F1B."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

from planning.cells import Cell

MICROBATCH_SIZES = (1,)  # as the paper has it
MICROBATCHES = "microbatches={m}"


@dataclass(frozen=True)
class Candidate:
    """A plan but for the number of microbatches: `text` has {m} in its place.

    `samples` are those of one microbatch on all replicas together, `stages` the pipeline's groups
    of `width` devices, `chunks` the stages on each. `inside` is the plan that does the same to
    operators without a pipeline, on the devices of one stage; `fast` the same without ZeRO and with
    no forward run twice. `is_1f1b`: the order is 1F1B or an interleaved one, so that what a stage
    waits is known; `is_filled`: the first stage holds as many microbatches as there are stages.
    """

    text: str
    inside: str
    fast: str
    samples: int
    width: int
    stages: int = 1
    chunks: int = 1
    is_1f1b: bool = True
    is_filled: bool = True
    is_plain: bool = True  # no forward runs twice
    base: Candidate | None = None  # that this one is a co-shard of
    whole: Candidate | None = None  # the same co-shard of all blocks, where this one is of some

    def plan(self, microbatches: int) -> str:
        return self.text.replace("{m}", str(microbatches))

    def within(self, policy: str, more: str) -> Candidate:
        """The same with `policy(..., more)` around it."""
        text, inside, fast = (f"{policy}({t}, {more})" for t in (self.text, self.inside, self.fast))
        return replace(self, text=text, inside=inside, fast=fast)


def conventional(cell: Cell) -> list[Candidate]:
    """Every conventional plan that divides the model and the batch."""
    found = []
    for dp, tp, pp in _factors(cell.devices):
        if cell.heads % tp or tp > 8 or pp > cell.most_stages:
            continue
        for zero, sp, again, size, chunks in product(
            (0, 1, 2, 3) if dp > 1 else (0,),
            (False, True) if tp > 1 and cell.has_sequence else (False,),
            (False, True),
            MICROBATCH_SIZES,
            (1, 2) if pp > 1 else (1,),
        ):
            if cell.global_batch % (dp * size) or (zero > 1 and pp > 1):
                continue  # ZeRO 2 and 3 reduce and gather at every microbatch of every stage
            if chunks > 1 and (cell.global_batch // (dp * size)) % pp:
                continue
            found.append(_candidate(cell, (dp, tp, pp), zero, sp, again, size, chunks))
    return found


def known_candidate(cell: Cell, plan: str) -> Candidate:
    """A plan of a table as a candidate that can be simulated, but has no floor."""
    found = re.search(r"\bmicrobatches=(\d+)", plan)
    stages = re.search(r"\bpp=(\d+)", plan)
    if found is None:
        raise ValueError(f"{plan}: expected microbatches=, as the plans of the table have")
    text = plan.replace(found[0], MICROBATCHES)
    samples = cell.global_batch // int(found[1])
    return Candidate(text, "", "", samples, cell.devices, int(stages[1]) if stages else 1)


def _factors(devices: int) -> Iterator[tuple[int, int, int]]:
    sizes = [n for n in range(1, devices + 1) if devices % n == 0]
    for dp, tp in product(sizes, sizes):
        if devices % (dp * tp) == 0:
            yield dp, tp, devices // (dp * tp)


def _candidate(
    cell: Cell, ways: tuple[int, int, int], zero: int, sp: bool, again: bool, size: int, chunks: int
) -> Candidate:
    dp, tp, pp = ways
    inner = [f"{k}={v}" for k, v in (("dp", dp), ("tp", tp)) if v > 1]
    outer = [f"pp={pp}"] if pp > 1 else []
    inner += ["sequence_parallel=True"] if sp else []
    more = [f"zero={zero}"] if zero else []
    more += [f"recompute={cell.blocks!r}"] if again else []
    order = [f"stages_per_device={chunks}, order='interleaved'"] if chunks > 1 else []
    return Candidate(
        f"hybrid({', '.join([*inner, *outer, *more, *order, MICROBATCHES])})",
        f"hybrid({', '.join([*inner, *more, MICROBATCHES])})",
        f"hybrid({', '.join([*inner, MICROBATCHES])})",
        samples=dp * size,
        width=dp * tp,
        stages=pp,
        chunks=chunks,
        is_plain=not again,
    )

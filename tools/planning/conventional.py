"""Conventional plans: every dp x tp x pp of the devices, with and without sequence parallelism,
ZeRO, recompute, several microbatch sizes, 1F1B and interleaved 1F1B."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from planning.cells import Cell

MICROBATCH_SIZES = (1,)  # as the paper has it


@dataclass(frozen=True)
class Candidate:
    """A plan but for the number of microbatches: `text` has {m} in its place.

    `samples` are those of one microbatch on all replicas together, `stages` the pipeline's groups
    of devices, `chunks` the stages on each. `inner` is the plan that does the same to operators on
    one device.
    """

    text: str
    samples: int
    stages: int
    chunks: int = 1
    inner: str = "hybrid(microbatches={m})"

    @property
    def is_plain(self) -> bool:
        """Whether no forward runs twice."""
        return self.inner == Candidate.inner

    def plan(self, microbatches: int) -> str:
        return self.text.replace("{m}", str(microbatches))


def conventional(cell: Cell) -> list[Candidate]:
    """Every conventional plan that divides the model and the batch."""
    found = []
    for dp, tp, pp in _factors(cell.devices):
        if cell.heads % tp or tp > 8 or pp > cell.layers:
            continue
        for zero, sp, again, size, chunks in product(
            (0, 1, 2, 3) if dp > 1 else (0,),
            (False, True) if tp > 1 else (False,),
            (False, True),
            MICROBATCH_SIZES,
            (1, 2) if pp > 1 else (1,),
        ):
            if cell.global_batch % (dp * size) or (zero > 1 and pp > 1):
                continue  # ZeRO 2 and 3 reduce and gather at every microbatch of every stage
            if chunks > 1 and (cell.global_batch // (dp * size)) % pp:
                continue
            found.append(_candidate(cell, dp, tp, pp, zero, sp, again, size, chunks))
    return found


def _factors(devices: int) -> Iterator[tuple[int, int, int]]:
    sizes = [n for n in range(1, devices + 1) if devices % n == 0]
    for dp, tp in product(sizes, sizes):
        if devices % (dp * tp) == 0:
            yield dp, tp, devices // (dp * tp)


def _candidate(
    cell: Cell, dp: int, tp: int, pp: int, zero: int, sp: bool, again: bool, size: int, chunks: int
) -> Candidate:
    parts = [f"{k}={v}" for k, v in (("dp", dp), ("tp", tp), ("pp", pp)) if v > 1]
    parts += [f"zero={zero}"] if zero else []
    parts += ["sequence_parallel=True"] if sp else []
    parts += [f"recompute={cell.blocks!r}"] if again else []
    parts += [f"stages_per_device={chunks}, order='interleaved'"] if chunks > 1 else []
    text = f"hybrid({', '.join([*parts, 'microbatches={m}'])})"
    inner = f"hybrid(microbatches={{m}}, recompute={cell.blocks!r})" if again else Candidate.inner
    return Candidate(text, dp * size, pp, chunks, inner)

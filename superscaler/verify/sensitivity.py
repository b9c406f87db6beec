"""Sensitivity: what differs no further than rounding alone takes it.

Some models turn the last bit of a number into much more: an element whose gradient is a billionth
of its tensor's is uncertain by a millionth of itself, and Adam divides by its size. No program can
reproduce such a tensor, nor does plain PyTorch from one machine to the next. So where something
differs, the untouched model is trained again from weights that are moved by their last bit. What it
moves as far is told apart from what the program gets wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from superscaler.runtime.shards import whole_part
from superscaler.verify.compare import Comparison, compare
from superscaler.verify.expected import Expected, initialised, trained
from superscaler.verify.ranks import Part, RankResult
from superscaler.verify.report import Row, Verdict
from superscaler.workload import Workload

TRIALS = 2
FACTOR = 4.0  # sums of another order round differently more than once


def forgive_rounding(made: Comparison, workload: Workload) -> Comparison:
    """The comparison, its differences marked that rounding alone explains.

    Only differences up to the accuracy's `sensitive` are looked at.
    """
    limit = made.expected.accuracy.sensitive
    if not any(_may_be_rounding(row, limit) for row in made.rows):
        return made
    moved = _moved_by_rounding(workload, made.expected)

    def judged(row: Row) -> Row:
        bound = FACTOR * moved.get((row.kind, row.name), 0.0)
        if _may_be_rounding(row, limit) and row.error <= bound:
            return replace(row, verdict=Verdict.SENSITIVE)
        return row

    return replace(made, rows=[judged(row) for row in made.rows])


def _may_be_rounding(row: Row, limit: float) -> bool:
    return row.verdict is Verdict.DIFFERS and row.error <= limit


def _moved_by_rounding(workload: Workload, expected: Expected) -> Mapping[tuple[str, str], float]:
    """Kind and name -> how far the untouched model is off when its weights move by a bit."""
    found: dict[tuple[str, str], float] = {}
    for trial in range(TRIALS):
        model = initialised(workload, expected.seed)
        _move(model, torch.Generator().manual_seed(trial))
        other = trained(workload, model, expected.batches, expected.seed, expected.accuracy)
        for row in compare(expected, [_as_rank(other)]).rows:
            key = row.kind, row.name
            found[key] = max(found.get(key, 0.0), row.error)
    return found


def _move(model: nn.Module, generator: torch.Generator) -> None:
    """Move every weight by its last bit, up, down or not at all."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.is_floating_point():
                sign = torch.randint(-1, 2, parameter.shape, generator=generator).to(parameter)
                parameter.addcmul_(parameter, sign, value=torch.finfo(parameter.dtype).eps)


def _as_rank(other: Expected) -> RankResult:
    """What was expected, as the result of one rank that holds all of it."""
    return RankResult(list(other.losses), list(other.metrics), other.grad_norm, list(_parts(other)))


def _parts(other: Expected) -> Iterator[Part]:
    kinds: dict[str, dict[str, Tensor]] = {
        "gradient": other.grads,
        "parameter": other.parameters,
        "buffer": other.buffers,
        "state": other.states,
    }
    for kind, tensors in kinds.items():
        for name, value in tensors.items():
            yield Part(kind, name, *whole_part(value.shape), value)

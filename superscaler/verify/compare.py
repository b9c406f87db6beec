"""Compare: every result of every rank against the reference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from superscaler.runtime.shards import put, take
from superscaler.verify.accuracy import largest, relative, widened
from superscaler.verify.expected import Expected, Tensors
from superscaler.verify.ranks import Part, RankResult
from superscaler.verify.report import Row, Verdict

_NAN = float("nan")


@dataclass
class Comparison:
    """The rows so far, and what replicas of a tensor differ by."""

    expected: Expected
    rows: list[Row] = field(default_factory=list)
    replicas_apart: dict[str, float] = field(default_factory=dict)
    not_held: list[str] = field(default_factory=list)


def compare(expected: Expected, ranks: list[RankResult]) -> Comparison:
    """Loss, metrics and gradient norm of each rank, and each part it holds of each tensor."""
    made = Comparison(expected)
    made.rows += _scalars(expected, ranks)
    references = {
        "gradient": expected.grads,
        "parameter": expected.parameters,
        "buffer": expected.buffers,
        "state": expected.states,
    }
    for kind, tensors in references.items():
        _compare_kind(made, kind, tensors, ranks)
    return made


def _scalars(expected: Expected, ranks: list[RankResult]) -> Iterator[Row]:
    for step, loss in enumerate(expected.losses):
        yield _row(expected, "loss", f"step {step}", loss, [r.losses[step] for r in ranks])
    for step, metrics in enumerate(expected.metrics):
        for name, metric in metrics.items():
            found = [r.metrics[step].get(name) for r in ranks]
            beside = largest(widened(expected.losses[step]))
            yield _row(expected, "metric", f"{name}, step {step}", metric, found, beside)
    if expected.grad_norm is not None:
        found = [r.grad_norm for r in ranks]
        yield _row(expected, "gradient norm", "last step", expected.grad_norm, found)


def _row(
    expected: Expected,
    kind: str,
    name: str,
    reference: Tensor,
    found: list[Tensor | None],
    beside: float = 0.0,
) -> Row:
    """A result that every rank has whole; one that is zero but for rounding, compared with what it
    stands `beside`, is judged against that."""
    worst, where = 0.0, ""
    scale = largest(widened(reference))
    is_rounding = scale < expected.accuracy.rounding * beside
    for rank, value in enumerate(found):
        if value is None:
            return Row(kind, name, _NAN, Verdict.MISSING, f"rank {rank}")
        error = relative(_difference(value, reference), beside if is_rounding else scale)
        if not error <= worst:
            worst, where = error, f"rank {rank}"
    verdict, where = _verdict(expected, worst, where)
    if is_rounding and verdict is Verdict.EQUAL:
        verdict = Verdict.ROUNDING
    return Row(kind, name, worst, verdict, where)


def _compare_kind(made: Comparison, kind: str, tensors: Tensors, ranks: list[RankResult]) -> None:
    held: dict[str, list[tuple[int, Part]]] = {}
    for rank, result in enumerate(ranks):
        for part in result.parts:
            if part.kind == kind:
                held.setdefault(part.name, []).append((rank, part))
    for name, reference in tensors.items():
        parts = held.pop(name, [])
        if not parts and _is_untouched(made.expected, kind, name, reference):
            made.not_held.append(name)
            continue
        made.rows.append(_tensor_row(made.expected, kind, name, reference, parts))
        apart = _replicas_apart(parts)
        if apart:
            made.replicas_apart[f"{kind} {name}"] = relative(apart, largest(reference))
    for name, parts in held.items():
        where = f"rank {parts[0][0]}"
        made.rows.append(Row(kind, name, _NAN, Verdict.UNEXPECTED, where))


def _is_untouched(expected: Expected, kind: str, name: str, reference: Tensor) -> bool:
    """Whether training leaves a parameter, its state (Adagrad makes one), or a buffer as it was."""
    if kind == "state":
        return name.rpartition(".")[0] not in expected.grads
    is_weight = kind in ("parameter", "buffer")
    return is_weight and torch.equal(reference, expected.initial[name])


def _tensor_row(
    expected: Expected,
    kind: str,
    name: str,
    reference: Tensor,
    parts: list[tuple[int, Part]],
) -> Row:
    """The parts that the ranks hold of one tensor; together they must cover it."""
    scale, is_rounding = largest(widened(reference)), False
    if kind == "gradient" and scale < expected.accuracy.rounding * expected.largest_gradient:
        scale, is_rounding = expected.largest_gradient, True
    if kind == "buffer" and scale < expected.accuracy.rounding * _largest_alike(expected, name):
        scale, is_rounding = _largest_alike(expected, name), True
    is_mean = expected.accuracy.is_mean and kind in ("parameter", "state")
    covered = torch.zeros(reference.shape, dtype=torch.bool)
    worst, where = 0.0, ""
    for rank, part in parts:
        put(covered, part.slots, part.box, torch.ones(part.value.shape, dtype=torch.bool))
        piece = take(reference, part.slots, part.box)
        if part.value.shape != piece.shape or part.value.dtype != reference.dtype:
            return Row(kind, name, _NAN, Verdict.DIFFERS, f"rank {rank}: shape or dtype")
        error = _mean_error(part.value, piece) if is_mean else None
        error = relative(_difference(part.value, piece), scale) if error is None else error
        if not error <= worst:
            worst, where = error, f"rank {rank}"
    if not bool(covered.all()):
        return Row(kind, name, _NAN, Verdict.MISSING, f"{int((~covered).sum())} elements")
    verdict, where = _verdict(expected, worst, where)
    if is_rounding and verdict is Verdict.EQUAL:
        verdict = Verdict.ROUNDING
    return Row(kind, name, worst, verdict, where)


def _largest_alike(expected: Expected, name: str) -> float:
    """The largest magnitude in the model's buffers of that last name, such as running_mean."""
    last = name.rpartition(".")[2]
    alike = (b for other, b in expected.buffers.items() if other.rpartition(".")[2] == last)
    return max(largest(widened(buffer)) for buffer in alike)


def _verdict(expected: Expected, error: float, where: str) -> tuple[Verdict, str]:
    if error <= expected.accuracy.tolerance:
        return Verdict.EQUAL, ""
    return Verdict.DIFFERS, where


def _difference(value: Tensor, reference: Tensor) -> float:
    """The largest difference of two tensors of one shape; NaN where they cannot be compared."""
    if value.shape != reference.shape:
        return _NAN
    return largest(widened(value.detach().cpu()) - widened(reference.detach().cpu()))


def _mean_error(value: Tensor, reference: Tensor) -> float:
    """The relative error in the root mean square."""
    apart = float((widened(value) - widened(reference)).norm())
    return relative(apart, float(widened(reference).norm()))


def _replicas_apart(parts: list[tuple[int, Part]]) -> float:
    """What parts that should be copies of one another differ by, at most."""
    first: dict[object, Tensor] = {}
    apart = 0.0
    for _, part in parts:
        other = first.setdefault((part.slots, part.box), part.value)
        if other is not part.value and not torch.equal(other, part.value):
            apart = max(apart, _difference(part.value, other))
    return apart


def rounding_only(expected: Expected) -> Mapping[str, int]:
    """Parameters with gradient elements that are rounding, and how many, in the last step."""
    limit = expected.thresholds[-1]
    counts = {
        name: int(((grad != 0) & (grad.abs() < limit)).sum())
        for name, grad in expected.grads.items()
    }
    return {name: count for name, count in counts.items() if count}

"""Whether a rule is right: run an operator whole and in parts, and compare.

`check` cuts the inputs as the rule says, runs every part's own call, puts the results together
(concatenated along axes that they have, summed or maximised along those that they lack) and
compares them with the whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise, product
from math import prod
from typing import Any

import torch
from torch import Tensor

import superscaler.runtime.kernels  # noqa: F401  registers our operators
from superscaler.graph.operator import Ref, map_refs
from superscaler.ops import Call, Operands, Rule, rule_for
from superscaler.runtime.kernels.attention_block import merge

Leaf = tuple[str, int]  # an axis, and which of its factors, major to minor
Interval = tuple[int, int]


@dataclass(frozen=True)
class Instance:
    """One call of an operator on real tensors: `args` are a template with Refs."""

    target: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    inputs: tuple[Tensor, ...]

    def run(self) -> tuple[Tensor, ...]:
        return execute(Call(self.target, self.args, self.kwargs), self.inputs)

    def operands(self, outputs: Sequence[Tensor]) -> Operands:
        shapes = tuple(tuple(x.shape) for x in self.inputs)
        outs = tuple(tuple(x.shape) for x in outputs)
        return Operands(self.target, self.args, self.kwargs, shapes, outs)


def instance(target: str, *args: Any, **kwargs: Any) -> Instance:
    """A call given with its tensors in place."""
    inputs: list[Tensor] = []

    def template(value: Any) -> Any:
        if isinstance(value, Tensor):
            inputs.append(value)
            return Ref(len(inputs) - 1)
        if isinstance(value, (list, tuple)):
            return [template(v) for v in value]
        return value

    return Instance(target, tuple(template(a) for a in args), kwargs, tuple(inputs))


def execute(call: Call, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The results of a call; a result that is not computed is a scalar zero."""
    operator = torch.ops
    for name in call.target.split("."):
        operator = getattr(operator, name)
    args, kwargs = (map_refs(a, lambda ref: inputs[ref.position]) for a in (call.args, call.kwargs))
    result = operator(*args, **kwargs)
    results = (result,) if isinstance(result, Tensor) else result
    return tuple(torch.zeros(()) if r is None else r for r in results)


@dataclass(frozen=True)
class Cut:
    """A rule whose axes are factored into leaves; a part has an interval of each."""

    rule: Rule
    leaves: dict[str, tuple[int, ...]]  # axis -> sizes of its factors

    def slots(self, dims: tuple[tuple[str, ...], ...]) -> list[list[Leaf]]:
        return [[(n, j) for n in names for j in range(len(self.leaves[n]))] for names in dims]

    def size(self, leaf: Leaf) -> int:
        return self.leaves[leaf[0]][leaf[1]]


@dataclass(frozen=True)
class Part:
    """One part, as `Rule.local` sees it."""

    cut: Cut
    intervals: dict[Leaf, Interval]

    def bounds(self, leaf: Leaf) -> Interval:
        return self.intervals.get(leaf, (0, self.cut.size(leaf)))

    def box(self, dims: tuple[tuple[str, ...], ...]) -> list[list[Interval]]:
        return [[self.bounds(leaf) for leaf in slots] for slots in self.cut.slots(dims)]

    def shape(self, dims: tuple[tuple[str, ...], ...]) -> tuple[int, ...]:
        return tuple(prod(stop - start for start, stop in box) for box in self.box(dims))

    def input_shape(self, i: int) -> tuple[int, ...]:
        return self.shape(self.cut.rule.inputs[i])

    def output_shape(self, k: int) -> tuple[int, ...]:
        return self.shape(self.cut.rule.outputs[k])

    def size(self, axis: str) -> int:
        return self.shape(((axis,),))[0] if axis in self.cut.leaves else 1

    def is_split(self, axis: str) -> bool:
        return any(name == axis for name, _ in self.intervals)

    def start(self, axis: str) -> int:
        if axis not in self.cut.leaves:
            return 0
        sizes = self.cut.leaves[axis]
        return sum(self.bounds((axis, k))[0] * prod(sizes[k + 1 :]) for k in range(len(sizes)))

    def stride(self, axis: str) -> int:
        sizes = self.cut.leaves.get(axis, ())
        is_striped = len(sizes) > 1 and (axis, len(sizes) - 1) in self.intervals
        return sizes[-1] if is_striped else 1

    def index(self, k: int) -> list[int]:
        found = []
        for slots in self.cut.slots(self.cut.rule.outputs[k]):
            found.append(len(slots))
            for leaf in slots:
                start, stop = self.bounds(leaf)
                found += [self.cut.size(leaf), start, stop - start]
        return found


def view_of(tensor: Tensor, part: Part, dims: tuple[tuple[str, ...], ...]) -> Tensor:
    """The part of a whole tensor, with one dim per slot: a view that can be written to."""
    slots = [leaf for dim in part.cut.slots(dims) for leaf in dim]
    view = tensor.view([part.cut.size(leaf) for leaf in slots])
    for d, leaf in enumerate(slots):
        start, stop = part.bounds(leaf)
        view = view.narrow(d, start, stop - start)
    return view


def cut_of(tensor: Tensor, part: Part, dims: tuple[tuple[str, ...], ...]) -> Tensor:
    return view_of(tensor.contiguous(), part, dims).reshape(part.shape(dims)).clone()


def intervals(size: int, count: int) -> list[Interval]:
    """`count` intervals of sizes as equal as can be, larger ones first."""
    bounds = [i * (size // count) + min(i, size % count) for i in range(count + 1)]
    return list(pairwise(bounds))


def run_in_parts(
    one: Instance, rule: Rule, leaves: dict[str, tuple[int, ...]], splits: dict[Leaf, int]
) -> list[Tensor]:
    """The whole's results from parts: `splits` says into how many each leaf is cut."""
    cut = Cut(rule, leaves)
    whole: list[Tensor | None] = [None] * len(rule.outputs)
    written: list[set[Any]] = [set() for _ in rule.outputs]
    for chosen in product(*(intervals(cut.size(leaf), n) for leaf, n in splits.items())):
        part = Part(cut, dict(zip(splits, chosen)))
        inputs = [cut_of(x, part, dims) for x, dims in zip(one.inputs, rule.inputs)]
        call = Call(one.target, one.args, one.kwargs)
        results = execute(rule.local(call, part) if rule.local else call, inputs)
        for k, (result, dims) in enumerate(zip(results, rule.outputs)):
            assert tuple(result.shape) == part.output_shape(k), (k, result.shape, part)
            if whole[k] is None:
                size = [prod(prod(leaves[n]) for n in names) for names in dims]
                whole[k] = torch.zeros(size, dtype=result.dtype)
            _put(whole[k], result, part, dims, written[k])
    return [x for x in whole if x is not None]


def _put(
    whole: Tensor, result: Tensor, part: Part, dims: tuple[tuple[str, ...], ...], written: set[Any]
) -> None:
    """Write, add, maximise or merge a part's result into the whole."""
    own = {name for names in dims for name in names}
    target = view_of(whole, part, dims)
    result = result.reshape(target.shape)
    axes = part.cut.rule.axes
    place = tuple((leaf, part.bounds(leaf)) for leaf in part.intervals if leaf[0] in own)
    partial = {leaf for leaf in part.intervals if leaf[0] not in own and axes[leaf[0]].reduce}
    value = (place, tuple((leaf, part.bounds(leaf)) for leaf in sorted(partial)))
    if value in written:  # the same value once more
        if not partial:
            torch.testing.assert_close(target, result, rtol=1e-12, atol=1e-12, equal_nan=True)
    elif place not in written:
        target.copy_(result)
    elif {axes[name].reduce for name, _ in partial} == {"sum"}:
        target += result
    elif {axes[name].reduce for name, _ in partial} == {"logsumexp"}:
        target.copy_(merge(target, result))
    else:
        target.copy_(torch.maximum(target, result))
    written |= {place, value}


def choices(rule: Rule) -> Iterator[tuple[dict[str, tuple[int, ...]], dict[Leaf, int]]]:
    """Factorings and splits to try: each axis in 2 and 3, its factors, and pairs of axes."""
    whole = {name: (axis.size,) for name, axis in rule.axes.items()}
    free = {n: axis for n, axis in rule.axes.items() if not axis.frozen and axis.size > 1}
    for name, axis in free.items():
        for count in (2, 3):
            if count <= axis.size:
                yield whole, {(name, 0): count}
        for major in (n for n in (2, 3) if axis.size % n == 0 and axis.size > n):
            factored = whole | {name: (major, axis.size // major)}
            yield factored, {(name, 0): 2}
            if not axis.indexed:
                yield factored, {(name, 1): 2}
            elif axis.strided:
                yield factored, {(name, 1): axis.size // major}
    yield from _striped_together(whole, free)
    for first, second in combinations(free, 2):
        yield whole, {(first, 0): 2, (second, 0): 2}


def _striped_together(
    whole: dict[str, tuple[int, ...]], free: dict[str, Any]
) -> Iterator[tuple[dict[str, tuple[int, ...]], dict[Leaf, int]]]:
    """All strided axes cut into every second element."""
    strided = [n for n, axis in free.items() if axis.strided and axis.size % 2 == 0]
    if len(strided) > 1:
        factored = whole | {name: (free[name].size // 2, 2) for name in strided}
        yield factored, {(name, 1): 2 for name in strided}


def check(one: Instance, *, known: bool = True, rtol: float = 1e-10) -> Rule:
    """Assert that the operator's rule holds for this call; `known`: that it has one."""
    expected = one.run()
    operands = one.operands(expected)
    rule, has_rule = rule_for(operands)
    assert has_rule or not known, f"{one.target} has no rule"
    check_shapes(rule, operands)
    for leaves, splits in choices(rule):
        found = run_in_parts(one, rule, leaves, splits)
        for k, (got, want) in enumerate(zip(found, expected)):
            _assert_same(got, want, rtol, f"{one.target} output {k}, {splits} of {leaves}")
    if is_inexact(expected[0]):
        check_linear(one, rule, expected, rtol)
    return rule


def is_inexact(x: Tensor) -> bool:
    """Whether its numbers are rounded: real or complex ones."""
    return x.is_floating_point() or x.is_complex()


def _assert_same(got: Tensor, want: Tensor, rtol: float, what: str) -> None:
    scale = want.abs().max().item() if is_inexact(want) and want.numel() else 0.0
    if not scale < float("inf"):
        scale = 1.0
    torch.testing.assert_close(
        got, want, rtol=rtol, atol=rtol * max(scale, 1.0), equal_nan=True,
        msg=lambda text: f"{what}: {text}",
    )  # fmt: skip


def check_shapes(rule: Rule, operands: Operands) -> None:
    """Assert that the rule's dims have the operands' sizes, and that no axis is left over."""
    named = set()
    shapes = (*operands.inputs, *operands.outputs)
    dims = (*rule.inputs, *rule.outputs)
    assert len(shapes) == len(dims), (operands.target, shapes, dims)
    for shape, operand in zip(shapes, dims):
        sizes = tuple(prod(rule.axes[n].size for n in names) for names in operand)
        assert sizes == shape, (operands.target, operand, shape)
        flat = [n for names in operand for n in names]
        assert len(set(flat)) == len(flat), (operands.target, operand)
        named |= set(flat)
    assert named == set(rule.axes), (operands.target, named, rule.axes)
    assert all(axis.size != 1 for axis in rule.axes.values())


def check_linear(one: Instance, rule: Rule, expected: Sequence[Tensor], rtol: float) -> None:
    """Assert that partial sums in the inputs of a linear set give partial sums of the outputs."""
    generator = torch.Generator().manual_seed(0)
    for positions in rule.linear:
        if not all(is_inexact(one.inputs[i]) for i in positions):
            continue
        first, second = list(one.inputs), list(one.inputs)
        for i in positions:
            x = one.inputs[i]
            first[i] = torch.randn(x.shape, dtype=x.dtype, generator=generator)
            second[i] = x - first[i]
        call = Call(one.target, one.args, one.kwargs)
        pairs = zip(execute(call, first), execute(call, second), expected)
        for k, (a, b, want) in enumerate(pairs):
            _assert_same(a + b, want, rtol * 100, f"{one.target} linear in {positions}, output {k}")

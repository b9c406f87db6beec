"""Fuse: a product, its view and a bias added to it become one `addmm`, as eager torch has it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from superscaler.graph.operator import Ref
from superscaler.materialize.program import Program
from superscaler.schedule.segments import Segment


@dataclass(frozen=True, slots=True)
class Biased:
    """`add(view(mm(x, w)), bias)`: operator ids, and which input of the add is the bias.

    The trace keeps the bias apart, so that a split of the contracted axis does not add it twice;
    where nothing happens to the product in between, one kernel can do both.
    """

    mm: int
    view: int
    bias: int


def biased_products(program: Program, segment: Segment) -> dict[int, Biased]:
    """The adds of a segment that end such a chain."""
    graph = program.partition.graph
    members = set(segment.operators)
    found = {}
    for op in segment.operators:
        add = graph.operators[op]
        if add.target != "aten.add.Tensor" or add.kwargs or add.args != (Ref(0), Ref(1)):
            continue
        for product, bias in ((0, 1), (1, 0)):
            view = _only_reader(
                program, members, op, product, ("aten.view.default", "aten.reshape.default")
            )
            mm = _only_reader(program, members, view, 0, ("aten.mm.default",)) if view >= 0 else -1
            if mm >= 0 and _is_bias(program, op, bias, mm):
                found[op] = Biased(mm, view, bias)
                break
    return found


def _only_reader(
    program: Program, members: set[int], op: int, i: int, targets: Iterable[str]
) -> int:
    """The producer of an input that it alone reads, as it is made, in the same task; -1 if none."""
    graph = program.partition.graph
    tensor = graph.operators[op].inputs[i]
    maker = graph.producer.get(tensor, (-1, 0))[0]
    read = program.reads[op, i]
    if maker not in members or graph.operators[maker].target not in targets:
        return -1
    alone = len(graph.consumers[tensor]) == 1 and tensor not in graph.results
    return maker if alone and read.conversion < 0 and not read.cut else -1


def _is_bias(program: Program, op: int, i: int, mm: int) -> bool:
    """Whether an input is one row for the product's last dim, of its dtype."""
    graph = program.partition.graph
    bias = graph.tensors[graph.operators[op].inputs[i]]
    product = graph.tensors[graph.operators[mm].outputs[0]]
    whole = graph.tensors[graph.operators[op].outputs[0]]
    return (
        len(bias.shape) == 1
        and bias.dtype == product.dtype == whole.dtype
        and bias.shape[0] == product.shape[1] == whole.shape[-1]
    )

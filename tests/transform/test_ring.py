"""Ring attention: what is communicated when, refusals, and algorithms by name."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np
import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

import superscaler as ss
from superscaler.compiler import CompiledProgram
from superscaler.errors import TransformError
from superscaler.graph.graph import Graph
from superscaler.materialize.general import exchanges
from superscaler.materialize.program import Conversion
from superscaler.policies import context_parallel
from superscaler.transform.algorithms import ALGORITHMS
from superscaler.transform.layout import Layout, input_layout
from superscaler.transform.partition import Grid, Partition
from superscaler.transform.select import Selection

BATCH, HEADS, KV_HEADS, SEQ, HEAD = 2, 6, 2, 12, 4
ITEM = torch.float32.itemsize
KEYS_BYTES = BATCH * KV_HEADS * SEQ * HEAD * ITEM  # of all keys; as many of all values


class Grouped(torch.nn.Module):
    """Causal attention of six heads on two of keys and values."""

    def __init__(self) -> None:
        super().__init__()
        self.query = torch.nn.Linear(8, HEADS * HEAD)
        self.key = torch.nn.Linear(8, KV_HEADS * HEAD)
        self.value = torch.nn.Linear(8, KV_HEADS * HEAD)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made = (f(x).unflatten(2, (-1, HEAD)) for f in (self.query, self.key, self.value))
        q, k, v = (y.transpose(1, 2) for y in made)
        return scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)


def step(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    return model(batch["x"]).pow(2).sum()


@pytest.fixture(scope="module")
def graph() -> Graph:
    sgd = lambda parameters: torch.optim.SGD(parameters, lr=0.1)  # noqa: E731
    return ss.trace(step, Grouped(), {"x": torch.randn(BATCH, SEQ, 8)}, sgd)


def ring(graph: Graph, count: int) -> CompiledProgram:
    return ss.compile(graph, context_parallel(cp=count, ring=True))


def rings(program: CompiledProgram) -> Iterator[tuple[str, Conversion]]:
    for conversion in program.program.conversions:
        if conversion.route.is_dealt:
            yield "dealt", conversion
        elif conversion.route.is_collected:
            yield "collected", conversion


def received(conversion: Conversion, rank: int) -> list[int]:
    """Bytes that a rank receives, by the conversion's times."""
    route = conversion.route
    return [
        sum(prod(b - a for a, b in box) * ITEM for _, box, _ in exchanges(route, key)[rank].recv)
        for key in route.all_keys()
    ]


@pytest.mark.parametrize("count", [2, 3, 4])
def test_a_rank_receives_all_blocks_but_its_own_one_at_a_time(graph: Graph, count: int) -> None:
    """Forward: (n - 1) / n of K and V; backward: as much again, and as much of their gradients."""
    block = KEYS_BYTES // count
    found = list(rings(ring(graph, count)))
    assert sorted(kind for kind, _ in found) == ["collected"] * 2 + ["dealt"] * 4
    for _, conversion in found:
        for rank in range(count):
            assert received(conversion, rank) == [0] + [block] * (count - 1)


@pytest.mark.parametrize("count", [2, 4])
def test_the_simulated_traffic_is_that_derived_on_paper(graph: Graph, count: int) -> None:
    cluster = ss.Cluster.load("h100x8")
    program = ss.compile(graph, context_parallel(cp=count, ring=True), cluster)
    rings_bytes = 3 * 2 * KEYS_BYTES * (count - 1)  # (n - 1) / n by each of n ranks
    gradients = (HEADS + 2 * KV_HEADS) * HEAD * 9 * ITEM  # all-reduced in a ring: around twice
    total = sum(t.num_bytes for t in program.simulate().traffic)
    the_loss = total - rings_bytes - 2 * (count - 1) * gradients
    assert 0 < the_loss < 32 * count


def test_each_block_is_sent_while_the_one_before_is_worked_on(graph: Graph) -> None:
    text = ring(graph, 3).files["program_0.py"]
    dealt = ("convert_0", "convert_1")
    schedule = [line.strip() for line in text.split("SCHEDULE = [")[1].splitlines()]
    order = [line for line in schedule if "_part1" in line or any(d in line for d in dealt)][:9]
    times = [int(line.split("(")[2][0]) for line in order]
    assert times == [0, 1, 0, 1, 0, 2, 2, 1, 2]
    assert [("part" in line) for line in order] == [False] * 4 + [True, False, False, True, True]


def test_at_every_time_each_block_is_on_one_device() -> None:
    grid = Grid(np.array([[0, 0, 0], [1, 1, 1], [2, 2, 2]]), ("cp", "ring"), ((1, 0),))
    layout = Layout(grid, (-1, 0), (12,))
    boxes = {t: [layout.box((i, t))[0] for i in range(3)] for t in range(3)}
    assert boxes[0] == [(0, 4), (4, 8), (8, 12)]
    assert boxes[1] == [(4, 8), (8, 12), (0, 4)]
    assert boxes[2] == [(8, 12), (0, 4), (4, 8)]
    assert layout.is_turned
    assert not Layout(grid, (0, -2), (12,)).is_turned


def positions(program: CompiledProgram, i: int, part: tuple[int, ...]) -> list[int]:
    """Of input `i` of the attention: which positions a part has."""
    partition = program.program.partition
    op = next(o for o in partition.graph.operators if "attention_block" in o.target)
    layout, found = input_layout(partition, op.id, i), [0]
    slots = tuple(zip(layout.sizes, layout.box(part), strict=True))
    for size, (start, stop) in partition.axes.dims_of(op.inputs[i], slots)[2]:
        found = [n * size + p for n in found for p in range(start, stop)]
    return found


def pairs_seen(program: CompiledProgram, count: int) -> list[list[int]]:
    """How many (query, key) pairs each rank works on, by time."""
    return [
        [
            sum(k <= q for q in positions(program, 0, part) for k in positions(program, 1, part))
            for part in ((rank, time) for time in range(count))
        ]
        for rank in range(count)
    ]


def test_striped_positions_are_as_much_work_on_each_rank(graph: Graph) -> None:
    contiguous = pairs_seen(ring(graph, 3), 3)
    striped = pairs_seen(ss.compile(graph, context_parallel(cp=3, ring=True, striped=True)), 3)
    assert contiguous == [[10, 0, 0], [10, 0, 16], [10, 16, 16]]
    assert striped == [[10, 6, 6], [10, 6, 10], [10, 10, 10]]


def test_queries_that_are_not_split_are_refused(graph: Graph) -> None:
    with pytest.raises(TransformError, match=r"expected its queries to be split on 'cp'.*no dims"):
        ss.op_trans(ss.start(graph), "**", "ring_attention")


def test_a_selection_without_attention_is_refused(graph: Graph) -> None:
    with pytest.raises(TransformError, match="no attention is among the selected operators"):
        ss.op_trans(ss.start(graph), "key", "ring_attention", dim="cp")


def test_an_unknown_algorithm_is_refused(graph: Graph) -> None:
    with pytest.raises(TransformError, match=r"no algorithm 'rings'; known: .*ring_attention"):
        ss.op_trans(ss.start(graph), "key", "rings")


def test_an_option_that_an_algorithm_does_not_take_is_refused(graph: Graph) -> None:
    with pytest.raises(TransformError, match=r"unexpected keyword argument 'by'.*given: by"):
        ss.op_trans(ss.start(graph), "key", "ring_attention", by="cp")


def test_an_algorithm_of_ones_own_in_a_plan(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    def in_halves(partition: Partition, selection: Selection, axis: str) -> Partition:
        partition = ss.op_trans(partition, selection, ss.Split(axis, 2))
        return ss.op_assign(partition, selection, [0, 1])

    monkeypatch.setattr("superscaler.transform.algorithms.ALGORITHMS", dict(ALGORITHMS))
    ss.register_algorithm("in_halves", in_halves)
    ss.register_algorithm("in_halves", in_halves)  # again is no harm
    text = """
stages: [{devices: [0]}]
rewrites:
- {algorithm: in_halves, operators: [key.mm], options: {axis: "key.weight:0"}}
"""
    plan = ss.Plan.from_yaml(text)
    assert ss.Plan.from_yaml(plan.to_yaml()) == plan
    assert ss.compile(graph, plan).world_size == 2
    with pytest.raises(TransformError, match="the name is taken"):
        ss.register_algorithm("in_halves", lambda partition, selection: partition)

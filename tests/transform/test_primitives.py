"""The primitives: what they do to roles and grids, and what they refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from subjects import mlp

from superscaler.errors import SuperScalerError, TransformError
from superscaler.graph.operator import Phase
from superscaler.transform import (
    Partition,
    Recompute,
    Replicate,
    Split,
    op_assign,
    op_order,
    op_trans,
    select,
    start,
)
from superscaler.transform.partition import REPLICATE
from superscaler.transform.select import Selection

FC1 = "layers.0.fc1.mm"


def fresh() -> Partition:
    return start(mlp().graph, mlp().axes)


def only(partition: Partition, name: str = FC1) -> Any:
    return partition.placed[select(partition.graph, name)[0]]


def test_start_is_one_part_on_device_0() -> None:
    assert fresh().num_devices == 1
    assert all(p.grid.shape == () for p in fresh().placed)


def test_split_then_assign() -> None:
    partition = op_trans(fresh(), FC1, Split("batch", 2, "dp"))
    partition = op_trans(partition, FC1, Replicate(3))
    partition = op_assign(partition, FC1, [[0, 1, 2], [3, 4, 5]])
    placed = only(partition)
    assert placed.grid.shape == (2, 3)
    assert placed.grid.names == ("dp", "d1")
    assert placed.roles[1] == REPLICATE
    assert partition.axes_of(select(partition.graph, FC1)[0]).iters[placed.roles[0]].size == 8
    assert partition.num_devices == 6


def test_parts_stay_in_place_until_assigned() -> None:
    placed = only(op_trans(fresh(), FC1, Split("batch", 4)))
    assert placed.grid.devices.tolist() == [0, 0, 0, 0]
    assert placed.grid.time_shape == (4,)


def test_operators_alike_share_a_grid() -> None:
    partition = op_trans(fresh(), "layers.*.fc1.mm", Split("batch", 2))
    grids = {id(partition.placed[i].grid) for i in select(partition.graph, "layers.*.fc1.mm")}
    assert len(grids) == 1


def test_the_input_is_not_changed() -> None:
    before = fresh()
    op_assign(op_trans(before, FC1, Split("batch", 2)), FC1, [0, 1])
    assert only(before).grid.shape == ()


def test_broadcast_over_leading_dims() -> None:
    partition = op_trans(op_trans(fresh(), FC1, Split("batch", 2)), FC1, Replicate(2))
    assert np.array_equal(only(op_assign(partition, FC1, [0, 1])).grid.devices, [[0, 1], [0, 1]])


def test_algorithms_are_functions() -> None:
    def twice(partition: Partition, ops: Selection) -> Partition:
        return op_trans(partition, ops, Replicate(2))

    assert only(op_trans(fresh(), FC1, twice)).grid.shape == (2,)


def test_recompute() -> None:
    partition = op_trans(fresh(), "layers.0", Recompute())
    again = [op for op in partition.graph.operators if op.name.endswith(".again")]
    assert again
    assert all(op.phase is Phase.BACKWARD and op.module.startswith("layers.0") for op in again)
    split = op_trans(fresh(), FC1, Split("batch", 2))
    with pytest.raises(TransformError, match="recompute first, then split and assign"):
        op_trans(split, "layers.0", Recompute())


def test_order() -> None:
    first, second = (select(mlp().graph, f"layers.{n}.fc1.mm", phase="forward") for n in (0, 1))
    (order,) = op_order(fresh(), first, second, first_part=(2,)).orders
    assert (order.first, order.second, order.first_time, order.second_time) == (
        *first,
        *second,
        (2,),
        None,
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda p: op_trans(p, FC1, Split("batch", 3)),
            "op_trans(layers.0.fc1.mm, split batch by 3): axis batch has 8 elements, "
            "not divisible by 3; use 2, 4, 8, or allow uneven parts",
        ),
        (lambda p: op_trans(p, FC1, Split("bacth", 2)), "no axis 'bacth' in this graph"),
        (
            lambda p: op_trans(p, FC1, Split("layers.1.fc1.weight:0", 2)),
            "the operator has no such axis; it has batch",
        ),
        (
            lambda p: op_trans(p, FC1, Split("batch", 0)),
            "expected a number of parts above 0, found 0",
        ),
        (lambda p: op_trans(p, "layers.9", Split("batch", 2)), "no operator matches 'layers.9'"),
        (
            lambda p: op_trans(p, 10**6, Replicate(2)),
            "operator 1000000 does not exist; the graph has operators 0 to",
        ),
        (
            lambda p: op_assign(op_trans(p, FC1, Split("batch", 2)), FC1, [0, 1, 2]),
            "op_assign(layers.0.fc1.mm): the operator has parts of shape (2,), "
            "the devices (3,); give one device",
        ),
        (lambda p: op_assign(p, FC1, -1), "op_assign: expected device numbers from 0, found -1"),
        (lambda p: op_assign(p, FC1, 0.5), "op_assign: expected device numbers from 0, found 0.5"),
    ],
)
def test_refused(change: Any, message: str) -> None:
    with pytest.raises(SuperScalerError) as caught:
        change(fresh())
    assert message in str(caught.value)


def test_earlier_splits_count() -> None:
    partition = op_trans(fresh(), FC1, Split("batch", 4))
    with pytest.raises(TransformError, match="axis batch has 2 elements, not divisible by 4"):
        op_trans(partition, FC1, Split("batch", 4))

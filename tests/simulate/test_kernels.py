"""Calls answered from memory against the same calls run anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from superscaler.cluster.operators import OperatorWork
from superscaler.simulate.recording.kernels import Kernels

aten = torch.ops.aten


def meta(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


class Counting:
    """Kernels that take a microsecond, and how many were asked for."""

    def __init__(self) -> None:
        self.asked: list[OperatorWork] = []
        self.kernels = Kernels(True, self.duration_us)

    def duration_us(self, work: OperatorWork) -> float:
        self.asked.append(work)
        return 1.0


def form(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [form(v) for v in value]
    if value is None:
        return None
    bytes_below = value.untyped_storage().nbytes()
    return value.shape, value.stride(), value.storage_offset(), value.dtype, bytes_below


CALLS: list[Callable[[], tuple[Any, tuple[Any, ...]]]] = [
    lambda: (aten.mm.default, (meta(4, 8), meta(8, 2))),
    lambda: (aten.t.default, (meta(4, 8),)),
    lambda: (aten.slice.Tensor, (meta(8, 4), 0, 2, 6)),
    lambda: (aten.split.Tensor, (meta(8, 4), 2)),
    lambda: (aten.native_layer_norm.default, (meta(4, 8), [8], meta(8), meta(8), 1e-5)),
    lambda: (aten.relu_.default, (meta(4),)),
    lambda: (aten.view.dtype, (meta(4), torch.int32)),
    lambda: (aten.expand.default, (meta(4, 1), [4, 6])),
    lambda: (aten._foreach_add.List, ([meta(2), meta(3)], [meta(2), meta(3)])),
]


@pytest.mark.parametrize("make", CALLS)
def test_an_answer_from_memory_is_that_of_the_operator(make: Any) -> None:
    kernels = Counting().kernels
    func, _ = make()
    for _ in range(3):
        _, args = make()
        found, _ = kernels.call(func, args, {})
        plain = func(*args)
        assert form(found) == form(plain)
        first = args[0]
        if isinstance(first, torch.Tensor) and isinstance(found, torch.Tensor):
            shares = found.untyped_storage()._cdata == first.untyped_storage()._cdata
            assert shares == (plain.untyped_storage()._cdata == first.untyped_storage()._cdata)
            assert (found is first) == (plain is first)


def test_equal_calls_ask_for_their_duration_once_and_others_again() -> None:
    counting = Counting()
    for _ in range(2):
        counting.kernels.call(aten.mm.default, (meta(4, 8), meta(8, 2)), {})
    assert len(counting.asked) == 1
    turned = meta(2, 8).t()
    counting.kernels.call(aten.mm.default, (meta(4, 8), turned), {})
    counting.kernels.call(aten.sum.dim_IntList, (meta(4, 8), [0]), {})
    found, _ = counting.kernels.call(aten.sum.dim_IntList, (meta(4, 8), [0]), {"dtype": torch.int})
    assert len(counting.asked) == 4
    assert found.dtype == torch.int


def test_products_are_timed_in_the_dtype_of_what_they_multiply() -> None:
    """A block of attention adds up in single precision."""
    counting = Counting()
    q = meta(1, 2, 8, 4, dtype=torch.float16)
    block = torch.ops.superscaler.attention_block.default
    found, _ = counting.kernels.call(block, (q, q, q, None, 0.0, False, 1.0, 0), {})
    assert found.dtype == torch.float32
    assert counting.asked[0].dtype == "float16"
    assert counting.asked[0].flops == 2 * 2 * 8 * 8 * (4 + 4)


def test_one_and_true_are_different_arguments() -> None:
    kernels = Counting().kernels
    made = [kernels.call(aten.full.default, ([2], x), {"device": "meta"})[0] for x in (1, True)]
    assert [x.dtype for x in made] == [torch.int64, torch.bool]


def test_real_numbers_are_computed_each_time() -> None:
    kernels, step = Counting().kernels, torch.zeros(())
    for _ in range(3):
        kernels.call(aten.add_.Tensor, (step, 1), {})
    assert float(step) == 3


def test_a_call_that_changes_the_form_of_its_argument_is_run_each_time() -> None:
    kernels = Counting().kernels
    for _ in range(3):
        x = meta(4, 8)
        result, _ = kernels.call(aten.t_.default, (x,), {})
        assert result is x
        assert tuple(x.shape) == (8, 4)


def test_an_output_that_is_an_input_is_not_taken_for_another_argument() -> None:
    """Of `out=x` in a call with x twice it does not show which of the two is returned."""
    kernels, x, y, z = Counting().kernels, meta(4), meta(4), meta(4)
    assert kernels.call(aten.add.out, (x, y), {"out": x})[0] is x
    assert kernels.call(aten.add.out, (x, y), {"out": z})[0] is z
    assert kernels.call(aten.add.out, (x, y), {"out": y})[0] is y


def test_an_output_in_memory_that_arguments_share() -> None:
    kernels, x = Counting().kernels, meta(4)
    both = kernels.call(aten.add.out, (x[:2], x[2:]), {"out": x[:2]})[0]
    assert both.untyped_storage()._cdata == x.untyped_storage()._cdata
    z = meta(4)[:2]
    assert kernels.call(aten.add.out, (meta(2), meta(4)[2:]), {"out": z})[0] is z


def test_new_memory_is_remembered_where_arguments_share_some() -> None:
    counting, x = Counting(), meta(4, 4)
    for _ in range(3):
        counting.kernels.call(aten.mm.default, (x, x), {})
    assert len(counting.asked) == 1


@pytest.mark.parametrize("func", [aten._conj.default, aten._neg_view.default])
def test_lazy_signs_are_kept(func: Any) -> None:
    kernels = Counting().kernels
    for _ in range(2):
        x = meta(4, dtype=torch.complex64)
        signed, _ = kernels.call(func, (x,), {})
        assert signed.is_conj() or signed.is_neg()
        plain, _ = kernels.call(aten.alias.default, (x,), {})
        still, _ = kernels.call(aten.alias.default, (signed,), {})
        assert (still.is_conj(), still.is_neg()) == (signed.is_conj(), signed.is_neg())
        assert not plain.is_conj()
        assert not plain.is_neg()

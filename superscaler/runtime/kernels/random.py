"""Counter-based random numbers: a draw depends on seed, step, operator and element, not on parts.

An element is numbered by (row, column): its position in the leading dims of the *global* tensor,
and in the last one. Rows and columns get 32-bit keys from splitmix64 (Steele, Lea, Flood 2014), an
element's bits come from its row's and column's keys by two rounds of shift and multiply.
Measured: 4 ns per element for a dropout on one core, 8.5 ns for torch's own.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from math import prod

import torch
from torch import Tensor

CHUNK = 1 << 16  # elements drawn at once on a CPU: 256 KiB stay in its cache

_MASK64 = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_FIRST, _SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


class _State(threading.local):
    seed = 0
    step = 0


_STATE = _State()


def set_random(seed: int, step: int) -> None:
    """Set what this thread's draws depend on besides operator and element."""
    _STATE.seed, _STATE.step = seed, step


def _signed(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def _mix(value: int) -> int:
    """The finaliser of splitmix64."""
    value = (value ^ value >> 30) * _FIRST & _MASK64
    value = (value ^ value >> 27) * _SECOND & _MASK64
    return value ^ value >> 31


def _operator_key(op_id: int) -> int:
    key = 0
    for word in (_STATE.seed, _STATE.step, op_id):
        key = _mix((key + _GOLDEN ^ word) & _MASK64)
    return key


def _dim_factors(shape: Sequence[int], index: Sequence[int]) -> list[list[Sequence[int]]]:
    """Per dim, its (global size, start, local size) factors; an empty index means all of `shape`.

    `index` may describe more dims than there are: those beyond are ignored.
    """
    if not index:
        return [[(n, 0, n)] for n in shape]
    dims, at = [], 0
    for _ in shape:
        count = index[at]
        dims.append([index[at + 1 + 3 * j : at + 4 + 3 * j] for j in range(count)])
        at += 1 + 3 * count
    return dims


def _merged(factors: Iterable[Sequence[int]]) -> list[tuple[int, int, int]]:
    """The same part with as few factors as can be: a whole factor joins the one before it."""
    merged: list[tuple[int, int, int]] = []
    for size, start, count in factors:
        if merged and count == size:
            before = merged.pop()
            merged.append((before[0] * size, before[1] * size, before[2] * size))
        else:
            merged.append((size, start, count))
    return merged


def _positions(factors: Iterable[Sequence[int]], device: torch.device) -> Tensor:
    """The global row-major positions of a part of a product of factors."""
    merged = _merged(factors) or [(1, 0, 1)]
    total: Tensor | None = None
    for k, (_, start, count) in enumerate(merged):
        stride = prod(size for size, _, _ in merged[k + 1 :])
        own = torch.arange(start * stride, (start + count) * stride, stride, device=device)
        total = own if total is None else (total[:, None] + own).reshape(-1)
    assert total is not None
    return total


def _keys(positions: Tensor, key: int) -> Tensor:
    """Two 32-bit keys per position: splitmix64's stream from `key`, as [position, 2]."""
    z = positions * _signed(_GOLDEN, 64) + _signed(key, 64)
    z = z.bitwise_xor_((z >> 30) & (1 << 34) - 1).mul_(_signed(_FIRST, 64))
    z = z.bitwise_xor_((z >> 27) & (1 << 37) - 1).mul_(_signed(_SECOND, 64))
    z = z.bitwise_xor_((z >> 31) & (1 << 33) - 1)
    return z.view(torch.int32).reshape(-1, 2)


def draw_bits(
    shape: Sequence[int], op_id: int, index: Sequence[int], device: torch.device
) -> Iterator[tuple[slice, Tensor]]:
    """The part's random 32-bit integers, some rows of the flattened (rows, columns) at a time."""
    dims = _dim_factors(shape, index)
    rows = _positions([factor for dim in dims[:-1] for factor in dim], device)
    columns = _positions(dims[-1] if dims else [], device)
    both = _keys(torch.cat((rows, ~columns)), _operator_key(op_id))  # ~: numbers of their own
    keys, column_keys = both[: len(rows)], both[len(rows) :, 0].contiguous()
    num_rows = len(keys)
    each = num_rows if device.type != "cpu" else max(1, CHUNK // max(1, len(columns)))
    for start, stop in pairwise([*range(0, num_rows, max(1, each)), num_rows]):
        yield slice(start, stop), _element_bits(keys[start:stop], column_keys)


def _element_bits(keys: Tensor, columns: Tensor) -> Tensor:
    x = torch.add(keys[:, :1], columns)
    shifted = x >> 16
    x ^= shifted
    x = torch.add(keys[:, 1:], x, alpha=_signed(0x7FEB352D, 32))
    torch.bitwise_right_shift(x, 15, out=shifted)
    x ^= shifted
    x *= _signed(0x846CA68B, 32)
    return x


def keep_threshold(p: float) -> int:
    """Bits below it occur with probability p."""
    return round(p * (1 << 32)) - (1 << 31)


def keep_factors(bits: Tensor, p: float, dtype: torch.dtype) -> Tensor:
    """Zero with probability p, else 1 / (1 - p)."""
    return (bits >= keep_threshold(p)).to(dtype).mul_(1 / (1 - p))

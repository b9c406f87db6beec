"""Tables by time index: folded, they still have every value."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from superscaler.runtime.by_time import folded, is_table, look_up

TIMES = [(a, b, c) for a in range(3) for b in range(2) for c in range(2)]


@given(st.sets(st.sampled_from(range(3))), st.sets(st.sampled_from(TIMES), min_size=1), st.data())
def test_a_folded_table_has_the_same_values(
    dims: set[int], times: set[tuple[int, ...]], data: st.DataObject
) -> None:
    value = {tuple(t[d] for d in sorted(dims)): data.draw(st.integers(0, 1)) for t in sorted(times)}
    table = {t: value[tuple(t[d] for d in sorted(dims))] for t in sorted(times)}
    found = folded(table)
    for time in times:
        assert (look_up(found, time) if is_table(found) else found) == table[time]


def test_numbers_that_do_not_matter_are_left_out() -> None:
    table = {(m, t): t for m in range(256) for t in range(4)}
    assert folded(table) == {(None, t): t for t in range(4)}
    assert folded(dict.fromkeys(table, "x")) == "x"
    assert folded({(0,): 1, (0, 1): 2}) == {(0,): 1, (0, 1): 2}


@pytest.mark.parametrize("time", [(3, 7), (3,), (), (3, 0, 5)])
def test_a_time_without_a_value(time: tuple[int, ...]) -> None:
    with pytest.raises(KeyError):
        look_up({(None, 0): 0, (None, 1): 1}, time)

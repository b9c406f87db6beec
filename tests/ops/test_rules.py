"""Every rule: parts run by themselves and put together are the whole."""

import pytest
from instances import FAMILIES
from parts import check


@pytest.mark.parametrize("family", FAMILIES)
def test_parts_are_the_whole(family):
    for one in FAMILIES[family]():
        check(one)

"""Checks that policies share: what no plan can be made of, named with the policy."""

from __future__ import annotations

from math import prod

from superscaler.errors import PlanError
from superscaler.plan import MOST_DEVICES, is_order, unknown_order


def check_numbers(policy: str, **numbers: int) -> None:
    """Raises PlanError for a number below 1."""
    for name, value in numbers.items():
        if value < 1:
            raise PlanError(f"{policy}: expected {name} of 1 or more, found {value}")


def check_size(policy: str, **numbers: int) -> None:
    """`check_numbers`, and raises PlanError where their product is more than a plan may have."""
    check_numbers(policy, **numbers)
    found = prod(numbers.values())
    if found > MOST_DEVICES:
        product = " x ".join(f"{name}={value}" for name, value in numbers.items() if value > 1)
        raise PlanError(
            f"{policy}: {product}: expected a product of at most {MOST_DEVICES}, found {found}"
        )


def check_order(policy: str, order: str) -> None:
    """Raises PlanError for an order that is neither a known one nor actions."""
    if not is_order(order):
        raise PlanError(f"{policy}: {unknown_order(order)}")


def check_tensor_parallel(policy: str, tp: int) -> None:
    """Raises PlanError where sequence parallelism has no tensor parallelism to go with."""
    if tp == 1:
        raise PlanError(
            f"{policy}: sequence_parallel splits tokens over the devices of tp; expected tp of 2 "
            "or more, found 1; leave it out, or see context_parallel"
        )


def check_patterns(policy: str, **patterns: str) -> None:
    """Raises PlanError for patterns that are left empty."""
    for name, value in patterns.items():
        if not value.split():
            raise PlanError(
                f"{policy}: expected {name} to name modules, found {value!r}; give their paths, "
                "separated by spaces"
            )

"""Checks that policies share: what no plan can be made of, named with the policy."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from math import prod
from typing import ParamSpec

from superscaler.errors import PlanError
from superscaler.plan import MOST_DEVICES, Plan, is_order, unknown_order

KINDS = {
    "int": (int, "a whole number"),
    "str": (str, "a text"),
    "bool": (bool, "True or False"),
    "Plan": (Plan, "a plan"),
}
P = ParamSpec("P")


def policy(function: Callable[P, Plan]) -> Callable[P, Plan]:
    """A policy that raises PlanError for arguments of another kind than it is annotated with."""
    known = inspect.signature(function).parameters

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> Plan:
        for name, value in (*zip(known, args), *kwargs.items()):
            if name in known:  # of others Python itself complains
                check_kind(function.__name__, name, str(known[name].annotation), value)
        return function(*args, **kwargs)

    return checked


def check_kind(policy: str, name: str, annotation: str, value: object) -> None:
    """Raises PlanError for a value of another kind than the annotation of one of KINDS."""
    kind, words = KINDS.get(annotation, (object, ""))
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise PlanError(f"{policy} takes {words} as {name}, found {repr(value)[:80]}")


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


def check_pipeline(policy: str, microbatches: int, order: str, **sizes: int) -> None:
    """Raises PlanError for numbers below 1, too many devices, or an unknown order."""
    check_numbers(policy, microbatches=microbatches)
    check_size(policy, **sizes)
    check_order(policy, order)


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

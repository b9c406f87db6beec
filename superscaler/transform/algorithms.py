"""Registered algorithms: rewrites of a partition by name, for op_trans and for plans."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from superscaler.errors import TransformError
from superscaler.transform.partition import Partition
from superscaler.transform.ring import ring_attention
from superscaler.transform.select import Selection

Algorithm = Callable[..., Partition]

ALGORITHMS: dict[str, Algorithm] = {"ring_attention": ring_attention}


def register_algorithm(name: str, function: Algorithm) -> None:
    """Let `op_trans` and a plan's `rewrites` name a rewrite of your own.

    `function(partition, selection, **options)` gets operator ids and returns a new partition: with
    other roles and devices (`Placed`), or of a rewritten graph. Whatever it does, communication is
    derived from the result, and `verify` tells whether it still computes the same.

    A feed-forward whose second half of the hidden features is on the next device:

    >>> from superscaler import Split, op_assign, op_trans, register_algorithm
    >>> def halves(partition, selection, axis, devices):
    ...     partition = op_trans(partition, selection, Split(axis, len(devices)))
    ...     return op_assign(partition, selection, devices)
    >>> register_algorithm("halves", halves)

    Then `op_trans(partition, ops, "halves", axis="fc1.weight:0", devices=[0, 1])`, or in a plan
    `rewrites: [{algorithm: halves, operators: [...], options: {axis: "fc1.weight:0", ...}}]`.

    Raises TransformError when the name is taken by another function.
    """
    if ALGORITHMS.setdefault(name, function) is not function:
        raise TransformError(f"register_algorithm({name!r}): the name is taken; use another one")


def apply_algorithm(
    partition: Partition, selection: Selection, name: str, options: dict[str, Any]
) -> Partition:
    """Run a registered algorithm.

    Raises TransformError when there is none of that name, or it does not take the options.
    """
    if name not in ALGORITHMS:
        known = ", ".join(sorted(ALGORITHMS))
        raise TransformError(
            f"op_trans: no algorithm {name!r}; known: {known} (register_algorithm adds one)"
        )
    function = ALGORITHMS[name]
    try:
        inspect.signature(function).bind(partition, selection, **options)
    except TypeError as error:
        given = ", ".join(options) or "none"
        raise TransformError(f"op_trans({name}): {error}; the options given: {given}") from error
    return function(partition, selection, **options)

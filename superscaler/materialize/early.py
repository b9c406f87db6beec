"""Early: what replicas reduce at each microbatch, and add up over microbatches after (ZeRO 2)."""

from __future__ import annotations

from superscaler.transform.layout import Layout
from superscaler.transform.match import ALL, TimeMatch
from superscaler.transform.partition import MICROBATCH, REPLICATE, VALUE


def reduced_early(source: Layout, target: Layout, match: TimeMatch) -> Layout | None:
    """Where partial values over microbatches and replicas are between two steps: reduced over
    replicas to the target's parts, still partial over microbatches.

    None where that saves nothing: microbatches are not added up, or no replica keeps a part.
    """
    grid = source.grid
    over = {grid.names[d] for d, s in zip(grid.time_dims, match.sources) if s == ALL}
    roles = tuple(
        role if d in grid.time_dims else _role(target, name)
        for d, (name, role) in enumerate(zip(grid.names, source.roles))
    )
    is_summed = any(n == MICROBATCH and r == VALUE for n, r in zip(grid.names, roles))
    is_cut = any(
        before == VALUE and after >= 0
        for d, (before, after) in enumerate(zip(source.roles, roles))
        if d in grid.space_dims
    )
    if MICROBATCH not in over or not is_summed or not is_cut:
        return None
    return Layout(grid, roles, source.sizes, source.reduce)


def _role(target: Layout, name: str) -> int:
    """What the target's grid dim of that name does."""
    names = target.grid.names
    return target.roles[names.index(name)] if name in names else REPLICATE

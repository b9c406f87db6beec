"""Bound: what no plan of a cell can be shorter than, with these costs of kernels.

A kernel takes at least as long as the arithmetic or the memory traffic that the cluster's device
needs for it, and parts of an operator together have all of both. So the whole batch at once on one
device, with no kernel run twice and none waited for to start, shared evenly, is a floor.
"""

from __future__ import annotations

from dataclasses import replace

import superscaler as ss
from planning.cells import Cell
from planning.thin import simulated

ALONE = "hybrid(microbatches=1)"


def least_us(cell: Cell) -> float:
    """The floor of a step, from two shallow models (blocks are alike)."""
    few, more = (_alone_us(cell, depth) for depth in cell.thin)
    each = (more - few) / (cell.thin[1] - cell.thin[0])
    return (few + (cell.full_depth - cell.thin[0]) * each) / cell.devices


def _alone_us(cell: Cell, depth: int) -> float:
    found = simulated(cell, depth, ALONE, cell.global_batch, _at_once())
    return sum(c.busy_us["compute"] for c in found.classes)


def _at_once() -> ss.Cluster:
    """One of the cells' devices, that starts kernels at once."""
    cluster = ss.Cluster.load("v100-32g-8x1")
    return replace(cluster, device_kind=replace(cluster.device_kind, launch_us=0.0))
